//! Edit and retry of a dead letter: its body to edit, then what differs and whether it can be read, then the job that sends it.

use access::Role;
use askama::Template;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderMap, Method, StatusCode, Uri};
use ledger::DeadLetter;
use ledger::jobs::Job;
use serde_json::Value;
use view::List;

use super::rows::Fields;
use super::session::Sent;
use super::shell::{Shell, Visit, page};
use super::{Pages, ask, json, read};
use crate::edit::{EditChecked, EditRequest};
use crate::refusal::Refusal;

#[derive(Template)]
#[template(path = "edit.html")]
struct EditPage {
    shell: Shell,
    form_token: String,
    /// The event's page, and that of its dead letters.
    event: String,
    letters: String,
    consumer: String,
    /// Why its consumer gave up.
    error: String,
    form: Form,
    /// What is wrong with the edited body.
    refusal: Option<String>,
    /// What differs, if that can be sent: each line with how it looks.
    diff: Option<Vec<(&'static str, String)>>,
    subject: String,
}

/// What is filled in.
#[derive(Default)]
struct Form {
    body: String,
    /// Whether the lines of the original end with CR LF, as those of every form do.
    is_crlf: bool,
    reason: String,
    to_all: bool,
    error: String,
    step: String,
}

impl Form {
    fn new(fields: Vec<(String, String)>) -> Self {
        let mut form = Self::default();
        for (name, value) in fields {
            match name.as_str() {
                "body" => form.body = value,
                "crlf" => form.is_crlf = true,
                "reason" => form.reason = value,
                "to_all" => form.to_all = true,
                "error" => form.error = value,
                "step" => form.step = value,
                _ => {}
            }
        }
        // A form sends every end of a line as CR LF.
        if !form.is_crlf {
            form.body = form.body.replace("\r\n", "\n");
        }
        form
    }

    fn asked(&self, dry_run: bool) -> Body {
        let asked = EditRequest {
            body: Some(self.body.clone()),
            body_base64: None,
            reason: self.reason.clone(),
            to_all: self.to_all,
            dry_run,
        };
        Body::from(serde_json::to_vec(&asked).unwrap_or_default())
    }
}

/// The pages on which the open letters of an event can be edited.
pub(super) fn links(shell: &Shell, id: &str, letters: &[Fields]) -> Vec<(String, String)> {
    let may = shell.visit.as_ref().is_some_and(|visit| visit.identity.role >= Role::Operator);
    let link = |letter: &Fields| {
        let consumer = letter.get("consumer")?.as_str()?;
        let is_closed =
            ["replaced_by", "discarded_in"].iter().any(|name| letter.get(name).is_some_and(Value::is_string));
        let text = shell.filled("Edit the body for {}", &[&consumer]);
        (may && !is_closed).then(|| (text, format!("/dead/{id}/{consumer}/edit")))
    };
    letters.iter().filter_map(link).collect()
}

/// The form with the body as it is. Looking at it is in the audit.
pub(super) async fn show(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    Path((id, consumer)): Path<(String, String)>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let letters = match read::<List<DeadLetter>>(&pages, &visit, &format!("/dead/{id}?reveal=true")).await {
        Ok(list) => list.items,
        Err(answer) => return pages.problem(&headers, &uri, Some(visit), answer).await,
    };
    let Some(letter) = letters.into_iter().find(|letter| letter.row.consumer == consumer) else {
        return pages.problem(&headers, &uri, Some(visit), Refusal::NoSuchId.into_response()).await;
    };
    let Some(body) = letter.body.body else {
        let text =
            "body: it is not text in UTF-8, which a page cannot edit; `malote dead edit --file` sends a file"
                .to_owned();
        return pages.problem(&headers, &uri, Some(visit), Refusal::Parameter(text).into_response()).await;
    };
    let form = Form { is_crlf: body.contains("\r\n"), body, error: letter.row.error, ..Form::default() };
    EditPage::new(&pages, visit, &headers, &uri, (id, consumer), form).answer(StatusCode::OK)
}

/// Checks what was filled in and shows the difference, or sends it.
pub(super) async fn send(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    Path((id, consumer)): Path<(String, String)>,
    headers: HeaderMap,
    uri: Uri,
    Sent(fields): Sent,
) -> Response {
    let form = Form::new(fields);
    let (is_sent, is_edited) = (form.step == "send", form.step == "edit");
    let asked = form.asked(!is_sent);
    let mut made = EditPage::new(&pages, visit.clone(), &headers, &uri, (id, consumer), form);
    if is_edited {
        return made.answer(StatusCode::OK);
    }
    let answer = ask(&pages, &visit, Method::POST, uri.path(), asked).await;
    match answer.status() {
        StatusCode::CREATED => {
            let job = json::<Job>(answer).await.map(|job| job.id).unwrap_or_default();
            Redirect::to(&format!("/jobs/{job}")).into_response()
        }
        StatusCode::OK => {
            let Some(EditChecked { subject, diff, .. }) = json(answer).await else { return super::broken() };
            made.diff = Some(diff.into_iter().map(|line| (class(&line), line)).collect());
            made.subject = subject.unwrap_or_default();
            made.answer(StatusCode::OK)
        }
        StatusCode::BAD_REQUEST => {
            let problem: Option<Value> = json(answer).await;
            made.refusal = problem.and_then(|problem| Some(problem.get("detail")?.as_str()?.to_owned()));
            made.answer(StatusCode::BAD_REQUEST)
        }
        _ => pages.problem(&headers, &uri, Some(visit), answer).await,
    }
}

fn class(line: &str) -> &'static str {
    match line.chars().next() {
        Some('-') => "bad",
        Some('+') => "good",
        _ => "",
    }
}

impl EditPage {
    fn new(
        pages: &Pages,
        visit: Visit,
        headers: &HeaderMap,
        uri: &Uri,
        (id, consumer): (String, String),
        form: Form,
    ) -> Self {
        Self {
            form_token: visit.form_token.clone(),
            shell: pages.shell(headers, uri, Some(visit), "Edit and retry"),
            event: format!("/events/{id}"),
            letters: format!("/dead/{id}"),
            consumer,
            error: form.error.clone(),
            form,
            refusal: None,
            diff: None,
            subject: String::new(),
        }
    }

    fn answer(&self, status: StatusCode) -> Response {
        page(status, self)
    }
}
