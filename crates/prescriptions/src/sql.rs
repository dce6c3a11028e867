//! The statements that write. Each compares orders of facts in the database itself, so that two replicas which
//! handle facts about the same thing at once cannot overwrite the newer one.

use consumer::Failure;
use event::Event;
use providers::beneficio_visao::{self, PartnerParams, Prescription};
use providers::{Ignored, Personal};
use sha2::{Digest, Sha256};
use store::Tx;
use store::many::{Value, insert, rounds};

use crate::{File, PrescriptionState};

/// A request as one event describes it.
pub struct Fact {
    pub(crate) request: Prescription,
    pub(crate) partner_hash: String,
    pub(crate) state: PrescriptionState,
    /// The optional fields that could not be read.
    pub(crate) ignored: Ignored,
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

/// Writes those requests that were received later than their rows.
pub(crate) async fn upsert(tx: &mut Tx, facts: &[(&Event, &Fact)]) -> Result<(), Failure> {
    let rows = facts.iter().map(|(event, fact)| {
        let Fact { request, partner_hash, state, .. } = fact;
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
        ((&event.source.name, request.cpf.bare(), partner_hash), row)
    });
    for round in rounds(rows) {
        insert(
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
                 left_axis = excluded.left_axis, left_add = excluded.left_add \
             WHERE (excluded.state_order, excluded.state_event) > \
                 (prescriptions.state_order, prescriptions.state_event)",
            round,
        )
        .await?;
    }
    Ok(())
}

/// Records the events, whether or not they are the newest.
pub(crate) async fn record(tx: &mut Tx, facts: &[(&Event, &Fact)]) -> Result<(), Failure> {
    let row = |(event, fact): &(&Event, &Fact)| {
        let Fact { request, partner_hash, state, .. } = fact;
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
