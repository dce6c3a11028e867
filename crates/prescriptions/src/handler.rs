//! From an event to the statements that keep it.

use async_trait::async_trait;
use consumer::{Failure, Handler};
use event::Event;
use providers::Parsed;
use providers::beneficio_visao::{self, Prescription, Status};
use store::Tx;
use store::inbox::{self, Note};

use crate::sql::{self, Notice};
use crate::{SUBSCRIPTION, State};

/// Keeps prescriptions.
pub(crate) struct Prescriptions;

#[async_trait]
impl Handler for Prescriptions {
    async fn handle(&self, events: &[&Event], tx: &mut Tx) -> Result<(), Failure> {
        let mut notes = Vec::new();
        let notices = events.iter().map(|event| notice(event, &mut notes)).collect::<Result<Vec<_>, _>>()?;
        sql::upsert(tx, &notices).await?;
        sql::record(tx, &notices).await?;
        Ok(inbox::note(tx, SUBSCRIPTION.consumer, &notes).await?)
    }
}

fn notice<'a>(event: &'a Event, notes: &mut Vec<Note>) -> Result<Notice<'a>, Failure> {
    let provider = event.source.provider.as_str();
    if provider != beneficio_visao::NAME {
        return Err(Failure::Permanent(format!("prescriptions: no contract with provider {provider}")));
    }
    let parsed: Parsed<Prescription> = providers::parse(&event.data, &event.content_type)
        .map_err(|broken| Failure::Permanent(broken.to_string()))?;
    if !parsed.ignored.is_empty() {
        notes.push(Note { event_id: event.id, text: parsed.ignored.to_string() });
    }
    let request = parsed.payload;
    // The CPF is part of the request's identity: anything else would be a request of nobody's.
    let document = request.cpf.bare();
    if document.len() != 11 || !document.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Failure::Permanent("cpf: expected a CPF of 11 digits".to_owned()));
    }
    let state = match request.status {
        Status::Pending => State::Pending,
        Status::InAnalysis => State::InAnalysis,
        Status::Rejected => State::Rejected,
        Status::Renewed => State::Renewed,
    };
    let partner_hash = sql::partner_hash(&request.partner_params);
    Ok(Notice { event, request, partner_hash, state })
}
