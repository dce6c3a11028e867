//! What the books say, and what they should say after every documented example.

use anyhow::Result;
use serde_json::Value;

use crate::client::api::Api;

/// The rows of every book at one moment.
pub struct Books {
    /// Instalments and orders.
    pub receivables: Vec<Value>,
    /// Agreements.
    pub agreements: Vec<Value>,
    /// Invoices.
    pub invoices: Vec<Value>,
    /// Prescriptions.
    pub prescriptions: Vec<Value>,
}

impl Books {
    /// Reads all.
    pub async fn read(api: &Api) -> Result<Self> {
        let list = |path: &'static str| api.list(path, &[], u32::MAX);
        Ok(Self {
            receivables: list("receivables").await?,
            agreements: list("agreements").await?,
            invoices: list("invoices").await?,
            prescriptions: list("prescriptions").await?,
        })
    }

    /// The instalments among the receivables.
    pub fn instalments(&self) -> Vec<Value> {
        self.receivables.iter().filter(|row| row["kind"] == "instalment").cloned().collect()
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
    let all = |books: &Books, state: &str| {
        let instalments = books.instalments();
        instalments.len() == 3
            && instalments.iter().all(|row| row["amount_centavos"] == 46_020 && row["state"] == state)
    };
    expect(all(before, "open"), "3 instalments of 460.20 are open after acordo.cadastrado");
    expect(all(after, "paid"), "3 instalments of 460.20 are paid after acordo.quitado");
    expect(
        matches!(&after.agreements[..], [agreement] if agreement["state"] == "settled"),
        "one agreement is settled after acordo.quitado",
    );
    let is_settled = |row: &&Value| row["kind"] == "order" && row["state"] == "paid";
    expect(after.receivables.iter().any(|row| is_settled(&row)), "an order is opened and settled");
    let is_103_from_101 = |row: &Value| row["status"] == "103" && row["previous_status"] == "101";
    expect(after.invoices.iter().any(is_103_from_101), "an invoice has status 103, before it 101");
    let is_renewed = |row: &Value| {
        row["state"] == "renewed" && row["files"].as_array().is_some_and(|files| files.len() == 2)
    };
    expect(after.prescriptions.iter().any(is_renewed), "a prescription is renewed, with both PDFs");
    wrong
}
