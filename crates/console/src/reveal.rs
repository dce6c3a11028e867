//! Personal data in answers: masked for everybody, unless a request asks for it (`reveal=true`) whose role allows that.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use ledger::feed::FeedEvent;
use ledger::{BodyInJson, Receipt};
use serde::Deserialize;
use subscriptions::Masked;
use utoipa::IntoParams;
use view::{MASK, is_personal, is_personal_name, mask_body};

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

/// Which fields are personal. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct PersonalFields(Arc<Names>);

#[derive(Debug, Default)]
struct Names {
    fields: HashMap<String, Vec<String>>,
    identified: HashMap<String, Vec<String>>,
}

impl PersonalFields {
    /// The names of personal fields by provider, and by source those of the fields and the header that its senders' own ids are in.
    pub fn new(
        fields: impl IntoIterator<Item = (String, Vec<String>)>,
        identified: impl IntoIterator<Item = (String, Vec<String>)>,
    ) -> Self {
        let (fields, identified) = (fields.into_iter().collect(), identified.into_iter().collect());
        Self(Arc::new(Names { fields, identified }))
    }

    /// The fields of a provider.
    fn fields(&self, provider: Option<&str>) -> Vec<&str> {
        let fields = provider.and_then(|name| self.0.fields.get(name));
        fields.into_iter().flatten().map(String::as_str).collect()
    }

    /// A receipt as the request may see it: the sender's own id may be that of a person.
    pub(crate) fn receipt(
        &self,
        Reveal(reveal): Reveal,
        [source, provider]: [Option<&str>; 2],
        receipt: &mut Option<Receipt>,
    ) {
        let fields = self.fields(provider);
        let names = source.and_then(|source| self.0.identified.get(source)).into_iter().flatten();
        let is_named = names.into_iter().any(|name| is_personal_name(name, &fields));
        let Some(id) = receipt.as_mut().and_then(|receipt| receipt.sender_id.as_mut()) else { return };
        // Of several fields it is the values, with spaces between.
        if !reveal && (is_named || is_personal(id) || id.split(' ').any(is_personal)) {
            MASK.clone_into(id);
        }
    }

    /// How a trial masks the bodies of events, unless the request asks for what is personal in them.
    pub(crate) fn masked(&self, Reveal(reveal): Reveal) -> Option<Masked> {
        let personal = self.clone();
        let masked = move |event: &FeedEvent| {
            let body = BodyInJson::from(event.body.to_vec());
            personal.shown(Reveal(false), Some(event.provider()), body).body
        };
        (!reveal).then(|| Box::new(masked) as Masked)
    }

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
        let fields = self.fields(provider);
        // What is not JSON has no fields to tell apart: none of it is shown.
        let shown = body.body.as_ref().and_then(|text| match text.is_empty() {
            true => Some(String::new()),
            false => mask_body(text, &fields),
        });
        match shown == body.body && body.body_base64.is_none() {
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
        let fields = PersonalFields::new([("erp".to_owned(), vec!["buyer".to_owned()])], []);
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
    fn the_senders_own_id_is_masked_where_its_field_or_its_form_is_personal() {
        let owned = |names: &[(&str, &str)]| -> Vec<(String, Vec<String>)> {
            names.iter().map(|(name, field)| ((*name).to_owned(), vec![(*field).to_owned()])).collect()
        };
        let fields = PersonalFields::new(
            owned(&[("erp", "buyer")]),
            owned(&[("by-buyer", "buyer"), ("by-mail", "E-Mail"), ("by-id", "id")]),
        );
        for (source, id, expect) in [
            ("by-buyer", "B7", MASK),
            ("by-mail", "x", MASK),
            ("by-id", "B7", "B7"),
            ("by-id", "7 52998224725", MASK),
            ("other", "52998224725", MASK),
            ("other", "7", "7"),
        ] {
            let receipt = Receipt {
                client: String::new(),
                status: 200,
                sender_id: Some(id.to_owned()),
                body_sha256: String::new(),
            };
            let shown = |reveal| {
                let mut shown = Some(receipt.clone());
                fields.receipt(Reveal(reveal), [Some(source), Some("erp")], &mut shown);
                shown.and_then(|receipt| receipt.sender_id)
            };
            assert_eq!(shown(false).as_deref(), Some(expect), "{source} {id}");
            assert_eq!(shown(true).as_deref(), Some(id));
        }
    }

    #[test]
    fn the_parameter_is_found_among_others_and_taken_out() {
        assert!(is_asked(Some("limit=1&reveal=true")) && !is_asked(Some("reveal=false")) && !is_asked(None));
        assert_eq!(without("limit=1&reveal=true&state=open"), "limit=1&state=open");
    }
}
