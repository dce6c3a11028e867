//! From an event to its fact, and from facts to the statements that keep them.

use async_trait::async_trait;
use consumer::{Announcement, Failure, Handler, Permanent};
use event::{Event, ProviderName};
use providers::beneficio_visao::{self, Prescription, Status};
use providers::{ArchivedFile, Ignored, Parsed, fetched};
use store::Tx;

use crate::PrescriptionState;
use crate::sql::{self, Request};

/// Keeps prescriptions.
pub struct Prescriptions;

/// What an event says, and the optional fields of it that could not be read.
pub struct Fact {
    about: About,
    ignored: Ignored,
}

enum About {
    Request(Box<Request>),
    File(ArchivedFile),
    /// A file of another provider.
    Nothing,
}

#[async_trait]
impl Handler for Prescriptions {
    type Fact = Fact;

    fn read(&self, event: &Event) -> Result<Fact, Permanent> {
        match event.source.provider.as_str() {
            beneficio_visao::NAME => request(event),
            ProviderName::OWN => file(event),
            provider => Err(Permanent::new(format!("prescriptions: no contract with provider {provider}"))),
        }
    }

    fn note(&self, fact: &Fact) -> Option<String> {
        fact.ignored.note()
    }

    async fn write(&self, facts: &[(&Event, &Fact)], tx: &mut Tx) -> Result<Vec<Announcement>, Failure> {
        let (mut requests, mut files) = (Vec::new(), Vec::new());
        for (event, fact) in facts {
            match &fact.about {
                About::Request(request) => requests.push((*event, &**request)),
                About::File(file) => files.push((*event, file)),
                About::Nothing => {}
            }
        }
        let announcements = sql::upsert(tx, &requests).await?;
        sql::record(tx, &requests).await?;
        sql::upsert_named_files(tx, &requests).await?;
        sql::upsert_archived_files(tx, &files).await?;
        Ok(announcements)
    }
}

fn request(event: &Event) -> Result<Fact, Permanent> {
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
    let about = About::Request(Box::new(Request { request, partner_hash, state }));
    Ok(Fact { about, ignored })
}

/// A file that was archived.
fn file(event: &Event) -> Result<Fact, Permanent> {
    let fetched = fetched::<ArchivedFile>(&event.data, &event.content_type, beneficio_visao::NAME);
    let Some(Parsed { payload, ignored }) = fetched.map_err(Permanent::new)? else {
        return Ok(Fact { about: About::Nothing, ignored: Ignored::default() });
    };
    Ok(Fact { about: About::File(payload), ignored })
}
