//! The statements that write. Each compares orders of facts in the database itself, so that two replicas which
//! handle facts about the same thing at once cannot overwrite the newer one.

use std::collections::HashMap;

use consumer::{Announcement, Failure};
use event::Event;
use providers::beneficio_visao::{self, PartnerParams, Prescription};
use providers::{ArchivedFile, Personal, file_key};
use sha2::{Digest, Sha256};
use store::many::{Value, Values, insert, merged, rounds};
use store::{Row, Tx};

use crate::events::{StateChange, state_event};
use crate::{File, PrescriptionState};

/// A request as one event describes it.
pub(crate) struct Request {
    pub request: Prescription,
    pub partner_hash: String,
    pub state: PrescriptionState,
}

fn personal(text: &Option<Personal>) -> Option<String> {
    text.as_ref().map(|text| text.expose().to_owned())
}

/// The parameters as part of a key: of one length, however long they are. Their text is canonical already.
pub(crate) fn partner_hash(params: &PartnerParams) -> String {
    providers::to_hex(&Sha256::digest(params.as_str()))
}

/// The eye's decimals as text, in the order of the columns.
fn eye(eye: Option<&beneficio_visao::Eye>) -> [Option<String>; 4] {
    let Some(eye) = eye else { return [None, None, None, None] };
    [
        eye.spherical.map(|power| power.to_string()),
        eye.cylindrical.map(|power| power.to_string()),
        eye.axis.map(|axis| axis.to_string()),
        eye.add.map(|power| power.to_string()),
    ]
}

fn files(request: &Prescription) -> String {
    let file = |file: &beneficio_visao::File| File {
        file_name: personal(&file.file_name),
        file_url: file.file_url.expose().to_owned(),
    };
    let files: Vec<File> = request.files.iter().map(file).collect();
    serde_json::to_string(&files).expect("texts are JSON")
}

/// Writes those requests that were received later than their rows. The statement keeps the state that each row had before, and
/// returns it: the row is locked, so what differs is the change that this transaction makes.
pub(crate) async fn upsert(tx: &mut Tx, facts: &[(&Event, &Request)]) -> Result<Vec<Announcement>, Failure> {
    let rows = facts.iter().map(|(event, fact)| {
        let Request { request, partner_hash, state } = fact;
        let (at, first) = event.receipt();
        let mut row: Vec<Value> = vec![
            (&event.source.name).into(),
            request.cpf.bare().into(),
            partner_hash.into(),
            request.partner_params.as_str().into(),
            personal(&request.email).into(),
            state.as_str().into(),
            personal(&request.reason).into(),
            files(request).into(),
            at.into(),
            (&first).into(),
            (&event.id).into(),
        ];
        let eyes = &request.eye_measurements;
        row.extend(
            [eye(eyes.right.as_ref()), eye(eyes.left.as_ref())].into_iter().flatten().map(Value::from),
        );
        let key = (event.source.name.as_str(), request.cpf.bare(), partner_hash.as_str());
        (key, (key, (*event, *state), row))
    });
    let mut announcements = Vec::new();
    for round in rounds(rows) {
        let causes: HashMap<_, _> = round.iter().map(|(key, cause, _)| (*key, *cause)).collect();
        let written = insert(
            tx,
            "prescriptions (source, document, partner_hash, partner_params, email, state, reason, files, \
                 state_order, state_event, first_event, right_spherical, right_cylindrical, right_axis, right_add, \
                 left_spherical, left_cylindrical, left_axis, left_add)",
            "ON CONFLICT (source, document, partner_hash) DO UPDATE SET email = excluded.email, \
                 state = excluded.state, reason = excluded.reason, files = excluded.files, \
                 state_order = excluded.state_order, state_event = excluded.state_event, \
                 right_spherical = excluded.right_spherical, right_cylindrical = excluded.right_cylindrical, \
                 right_axis = excluded.right_axis, right_add = excluded.right_add, \
                 left_spherical = excluded.left_spherical, left_cylindrical = excluded.left_cylindrical, \
                 left_axis = excluded.left_axis, left_add = excluded.left_add, \
                 state_before = prescriptions.state \
             WHERE (excluded.state_order, excluded.state_event) > \
                 (prescriptions.state_order, prescriptions.state_event) \
             RETURNING source, document, partner_hash, state_before",
            round.into_iter().map(|(.., row)| row).collect(),
        )
        .await?;
        for row in &written {
            let key = ["source", "document", "partner_hash"].map(|column| row.try_get::<String, _>(column));
            let [source, document, partner_hash] = key;
            let (source, document, partner_hash) = (source?, document?, partner_hash?);
            let previous_state = PrescriptionState::read_optional(row, "state_before")?;
            let cause = causes.get(&(source.as_str(), document.as_str(), partner_hash.as_str())).copied();
            if let Some((event, state)) = cause.filter(|(_, state)| previous_state != Some(*state)) {
                let data = StateChange { source, state, previous_state };
                announcements.push(state_event(state).announce_same_subject(event, &data));
            }
        }
    }
    Ok(announcements)
}

/// Records the events, whether or not they are the newest.
pub(crate) async fn record(tx: &mut Tx, facts: &[(&Event, &Request)]) -> Result<(), Failure> {
    let row = |(event, fact): &(&Event, &Request)| {
        let Request { request, partner_hash, state } = fact;
        vec![
            (&event.id).into(),
            (&event.source.name).into(),
            request.cpf.bare().into(),
            partner_hash.into(),
            (&event.topic).into(),
            state.as_str().into(),
            personal(&request.reason).into(),
            i64::try_from(request.files.len()).unwrap_or(i64::MAX).into(),
            event.time.into(),
        ]
    };
    insert(
        tx,
        "prescription_history (event_id, source, document, partner_hash, topic, state, reason, files, \
             received_at)",
        "ON CONFLICT (event_id) DO NOTHING",
        facts.iter().map(row).collect(),
    )
    .await?;
    Ok(())
}

/// Writes the files that requests name.
pub(crate) async fn upsert_named_files(tx: &mut Tx, facts: &[(&Event, &Request)]) -> Result<(), Failure> {
    let rows = facts.iter().flat_map(|(event, Request { request, .. })| {
        let (_, original) = event.receipt();
        request.files.iter().map(move |file| {
            let source = event.source.name.as_str();
            let key = file_key(file.file_url.expose(), file.file_name.as_ref().map(Personal::expose));
            let row: Vec<Value> = vec![
                source.into(),
                (&key).into(),
                (&original).into(),
                request.cpf.bare().into(),
                personal(&file.file_name).into(),
            ];
            ((source, key), row)
        })
    });
    insert(
        tx,
        "prescription_files (source, file_key, event_id, document, file_name)",
        "ON CONFLICT (source, file_key) DO UPDATE SET document = excluded.document, \
             file_name = excluded.file_name",
        file_rows(rows),
    )
    .await?;
    Ok(())
}

/// Writes the files that were archived.
pub(crate) async fn upsert_archived_files(
    tx: &mut Tx,
    files: &[(&Event, &ArchivedFile)],
) -> Result<(), Failure> {
    let rows = files.iter().map(|(event, file)| {
        let ArchivedFile { source, external_id, id, sha256, size, fetched_at } = file;
        let row: Vec<Value> = vec![
            source.into(),
            external_id.into(),
            event.caused_by.unwrap_or(event.id).to_string().into(),
            id.into(),
            sha256.into(),
            (*size).into(),
            fetched_at.into(),
        ];
        ((source.as_str(), external_id.as_str()), row)
    });
    insert(
        tx,
        "prescription_files (source, file_key, event_id, archive_id, sha256, size, archived_at)",
        "ON CONFLICT (source, file_key) DO UPDATE SET archive_id = excluded.archive_id, \
             sha256 = excluded.sha256, size = excluded.size, archived_at = excluded.archived_at",
        file_rows(rows),
    )
    .await?;
    Ok(())
}

/// One row for each file, as the statements merge them: with the event that comes first, and what the last one says.
fn file_rows<K: Ord>(rows: impl IntoIterator<Item = (K, Values)>) -> Vec<Values> {
    /// Source, key and event.
    const KEPT: usize = 3;
    let rows = merged(rows, |known: &mut Values, row| {
        known.splice(KEPT.., row.into_iter().skip(KEPT));
    });
    rows.into_iter().map(|(_, row)| row).collect()
}
