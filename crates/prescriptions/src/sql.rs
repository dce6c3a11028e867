//! The statements that write. Each compares orders of facts in the database itself, so that two replicas which
//! handle facts about the same thing at once cannot overwrite the newer one.

use consumer::Failure;
use event::Event;
use providers::Personal;
use providers::beneficio_visao::{self, PartnerParams, Prescription};
use sha2::{Digest, Sha256};
use store::Tx;
use store::sql::query;

use crate::{File, State};

fn source(event: &Event) -> String {
    event.source.name.as_str().to_owned()
}

fn personal(text: &Option<Personal>) -> Option<String> {
    text.as_ref().map(|text| text.expose().to_owned())
}

/// The parameters as part of a key: of one length, however long they are. Their text is canonical already.
pub(crate) fn partner_hash(params: &PartnerParams) -> String {
    Sha256::digest(params.as_str()).iter().map(|byte| format!("{byte:02x}")).collect()
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

/// Writes the request if it was received later than the row.
pub(crate) async fn upsert(
    tx: &mut Tx,
    event: &Event,
    request: &Prescription,
    partner_hash: &str,
    state: State,
) -> Result<(), Failure> {
    let (at, first) = event.receipt();
    let mut upsert = query(
        "INSERT INTO prescriptions (source, document, partner_hash, partner_params, email, state, reason, files, \
             state_order, state_event, first_event, right_spherical, right_cylindrical, right_axis, right_add, \
             left_spherical, left_cylindrical, left_axis, left_add) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) \
         ON CONFLICT (source, document, partner_hash) DO UPDATE SET email = excluded.email, state = excluded.state, \
             reason = excluded.reason, files = excluded.files, state_order = excluded.state_order, \
             state_event = excluded.state_event, right_spherical = excluded.right_spherical, \
             right_cylindrical = excluded.right_cylindrical, right_axis = excluded.right_axis, \
             right_add = excluded.right_add, left_spherical = excluded.left_spherical, \
             left_cylindrical = excluded.left_cylindrical, left_axis = excluded.left_axis, \
             left_add = excluded.left_add \
         WHERE (excluded.state_order, excluded.state_event) > (prescriptions.state_order, prescriptions.state_event)",
    )
    .bind(source(event))
    .bind(request.cpf.bare().to_owned())
    .bind(partner_hash.to_owned())
    .bind(request.partner_params.as_str().to_owned())
    .bind(personal(&request.email))
    .bind(state.as_str())
    .bind(personal(&request.reason))
    .bind(files(request))
    .bind(at)
    .bind(first.to_string())
    .bind(event.id.to_string());
    let eyes = &request.eye_measurements;
    for measured in [eye(eyes.right.as_ref()), eye(eyes.left.as_ref())].into_iter().flatten() {
        upsert = upsert.bind(measured);
    }
    upsert.execute(&mut **tx).await?;
    Ok(())
}

/// Records the event, whether or not it is the newest.
pub(crate) async fn record(
    tx: &mut Tx,
    event: &Event,
    request: &Prescription,
    partner_hash: &str,
    state: State,
) -> Result<(), Failure> {
    query(
        "INSERT INTO prescription_history (event_id, source, document, partner_hash, topic, state, reason, files, \
             received_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (event_id) DO NOTHING",
    )
    .bind(event.id.to_string())
    .bind(source(event))
    .bind(request.cpf.bare().to_owned())
    .bind(partner_hash.to_owned())
    .bind(event.topic.to_string())
    .bind(state.as_str())
    .bind(personal(&request.reason))
    .bind(i64::try_from(request.files.len()).unwrap_or(i64::MAX))
    .bind(event.time.as_microsecond())
    .execute(&mut **tx)
    .await?;
    Ok(())
}
