//! What the books say, and what they should say after every documented example.

use anyhow::Result;
use invoices::{INVOICES, Invoice};
use prescriptions::{PRESCRIPTIONS, Prescription, PrescriptionState};
use receivables::{AGREEMENTS, Agreement, AgreementState, Kind, RECEIVABLES, Receivable, ReceivableState};

use crate::client::api::Api;

/// The rows of every book at one moment.
pub struct Books {
    /// Instalments and orders.
    pub receivables: Vec<Receivable>,
    /// Agreements.
    pub agreements: Vec<Agreement>,
    /// Invoices.
    pub invoices: Vec<Invoice>,
    /// Prescriptions.
    pub prescriptions: Vec<Prescription>,
}

impl Books {
    /// Reads all.
    pub async fn read(api: &Api) -> Result<Self> {
        Ok(Self {
            receivables: api.list(RECEIVABLES.name, &[], u32::MAX).await?,
            agreements: api.list(AGREEMENTS.name, &[], u32::MAX).await?,
            invoices: api.list(INVOICES.name, &[], u32::MAX).await?,
            prescriptions: api.list(PRESCRIPTIONS.name, &[], u32::MAX).await?,
        })
    }

    /// The instalments among the receivables.
    pub fn instalments(&self) -> Vec<&Receivable> {
        self.receivables.iter().filter(|row| row.kind == Kind::Instalment).collect()
    }
}

/// What is not as the documented examples make it.
pub fn wrong(before: &Books, after: &Books) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut expect = |is_so: bool, what: &str| {
        if !is_so {
            wrong.push(what.to_owned());
        }
    };
    let all = |books: &Books, state: ReceivableState| {
        let instalments = books.instalments();
        instalments.len() == 3
            && instalments.iter().all(|row| row.amount_centavos == Some(46_020) && row.state == state)
    };
    expect(all(before, ReceivableState::Open), "3 instalments of 460.20 are open after acordo.cadastrado");
    expect(all(after, ReceivableState::Paid), "3 instalments of 460.20 are paid after acordo.quitado");
    expect(
        matches!(&after.agreements[..], [agreement] if agreement.state == AgreementState::Settled),
        "one agreement is settled after acordo.quitado",
    );
    let is_settled = |row: &Receivable| row.kind == Kind::Order && row.state == ReceivableState::Paid;
    expect(after.receivables.iter().any(is_settled), "an order is opened and settled");
    let is_103_from_101 =
        |row: &Invoice| row.status.as_deref() == Some("103") && row.previous_status.as_deref() == Some("101");
    expect(after.invoices.iter().any(is_103_from_101), "an invoice has status 103, before it 101");
    let is_renewed = |row: &Prescription| row.state == PrescriptionState::Renewed && row.files.len() == 2;
    expect(after.prescriptions.iter().any(is_renewed), "a prescription is renewed, with both PDFs");
    wrong
}
