//! From an event to its fact, and from facts to the statements that keep them.

use async_trait::async_trait;
use consumer::{Failure, Handler, Permanent};
use event::Event;
use providers::Parsed;
use providers::beneficio_visao::{self, Prescription, Status};
use store::Tx;

use crate::PrescriptionState;
use crate::sql::{self, Fact};

/// Keeps prescriptions.
pub struct Prescriptions;

#[async_trait]
impl Handler for Prescriptions {
    type Fact = Fact;

    fn read(&self, event: &Event) -> Result<Fact, Permanent> {
        let provider = event.source.provider.as_str();
        if provider != beneficio_visao::NAME {
            return Err(Permanent::new(format!("prescriptions: no contract with provider {provider}")));
        }
        let Parsed { payload: request, ignored } =
            providers::parse::<Prescription>(&event.data, &event.content_type).map_err(Permanent::new)?;
        // The CPF is part of the identity of the request: without it the request belongs to no person.
        let document = request.cpf.bare();
        if document.len() != 11 || !document.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Permanent::new("cpf: expected a CPF of 11 digits"));
        }
        let state = match request.status {
            Status::Pending => PrescriptionState::Pending,
            Status::InAnalysis => PrescriptionState::InAnalysis,
            Status::Rejected => PrescriptionState::Rejected,
            Status::Renewed => PrescriptionState::Renewed,
        };
        let partner_hash = sql::partner_hash(&request.partner_params);
        Ok(Fact { request, partner_hash, state, ignored })
    }

    fn note(&self, fact: &Fact) -> Option<String> {
        fact.ignored.note()
    }

    async fn write(&self, facts: &[(&Event, &Fact)], tx: &mut Tx) -> Result<(), Failure> {
        sql::upsert(tx, facts).await?;
        sql::record(tx, facts).await
    }
}
