//! Personal data in answers: masked for everybody, unless a request asks for it (`reveal=true`) whose role allows that.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use ledger::BodyInJson;
use serde::Deserialize;
use utoipa::IntoParams;
use view::mask_body;

/// The parameter that asks for personal data.
pub(crate) const PARAMETER: &str = "reveal=true";

/// Whether a query asks for personal data.
pub(crate) fn is_asked(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair == PARAMETER))
}

/// The query without that.
pub(crate) fn without(query: &str) -> String {
    query.split('&').filter(|pair| *pair != PARAMETER).collect::<Vec<_>>().join("&")
}

/// What a request may ask for beside the rest.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RevealParameter {
    /// `true` shows personal data, which is masked otherwise. That needs the role `operator`, and the audit has it.
    #[expect(dead_code, reason = "it is read by `is_asked`, wherever the request has it")]
    reveal: Option<bool>,
}

/// Whether a request asks for personal data. What its role allows was checked before.
#[derive(Clone, Copy)]
pub(crate) struct Reveal(bool);

impl<S: Send + Sync> FromRequestParts<S> for Reveal {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(is_asked(parts.uri.query())))
    }
}

/// The names of personal fields, by provider. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct PersonalFields(Arc<HashMap<String, Vec<String>>>);

impl FromIterator<(String, Vec<String>)> for PersonalFields {
    fn from_iter<I: IntoIterator<Item = (String, Vec<String>)>>(fields: I) -> Self {
        Self(Arc::new(fields.into_iter().collect()))
    }
}

impl PersonalFields {
    /// The body of an event of this provider as the request may see it.
    pub(crate) fn shown(
        &self,
        Reveal(reveal): Reveal,
        provider: Option<&str>,
        body: BodyInJson,
    ) -> BodyInJson {
        if reveal {
            return body;
        }
        let fields = provider.and_then(|name| self.0.get(name)).map_or(&[][..], Vec::as_slice);
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        // What is not JSON has no fields to tell apart: none of it is shown.
        let shown = body.body.as_ref().and_then(|text| match text.is_empty() {
            true => Some(String::new()),
            false => mask_body(text, &fields),
        });
        match shown.is_some() && shown == body.body {
            true => body,
            false => BodyInJson { body: shown, body_base64: None, masked: true },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_shown_without_what_is_personal_and_one_that_is_not_json_not_at_all() {
        let fields: PersonalFields = [("erp".to_owned(), vec!["buyer".to_owned()])].into_iter().collect();
        let check = |provider: Option<&str>, body: &[u8], expect: Option<&str>, masked: bool| {
            let shown = fields.shown(Reveal(false), provider, BodyInJson::from(body.to_vec()));
            assert_eq!((shown.body.as_deref(), shown.body_base64, shown.masked), (expect, None, masked));
            let whole = BodyInJson::from(body.to_vec());
            assert_eq!(fields.shown(Reveal(true), provider, whole.clone()), whole);
        };
        check(Some("erp"), br#"{"buyer": "M", "total": 1}"#, Some(r#"{"buyer": "***", "total": 1}"#), true);
        check(Some("other"), br#"{"buyer": "M", "cpf": ""}"#, Some(r#"{"buyer": "M", "cpf": ""}"#), false);
        check(None, b"cpf=52998224725", None, true);
        check(None, &[0xff], None, true);
        check(None, b"", Some(""), false);
    }

    #[test]
    fn the_parameter_is_found_among_others_and_taken_out() {
        assert!(is_asked(Some("limit=1&reveal=true")) && !is_asked(Some("reveal=false")) && !is_asked(None));
        assert_eq!(without("limit=1&reveal=true&state=open"), "limit=1&state=open");
    }
}
