//! Benefício Visão: prescription renewals ("Troca de Receitas"). Health data, sensitive under the LGPD.
//!
//! The provider gives no prescription id and no order of facts: a request is known by its source, the CPF and
//! the `partnerParams`, and of two notices about it the one received later is the newer.

use std::collections::BTreeMap;
use std::fmt;

use event::{Subject, Topic};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::provider::{root, topic};
use crate::value::{Value, choice, deserialize, kind, null_is_default, optional, scalar};
use crate::{Degrees, Dioptres, Personal, SubjectKey, TaxId, TopicInfo, Unusable};

/// The provider's name.
pub const NAME: &str = "beneficio-visao";

macro_rules! topic_info {
    ($name:literal, $meaning:literal, $example:expr) => {
        TopicInfo { name: $name, meaning: $meaning, subject: "cpf", example: $example }
    };
}

/// Every documented topic: the values of `status`. The subject is a keyed hash of the CPF.
pub const TOPICS: &[TopicInfo] = &[
    topic_info!("pending", "a renewal was asked for", None),
    topic_info!("in_analysis", "a renewal is being looked at", None),
    topic_info!("rejected", "a renewal was refused, with the reason", None),
    topic_info!(
        "renewed",
        "a prescription was renewed, with its files",
        Some(include_str!("../fixtures/beneficio-visao/renewed.json"))
    ),
];

pub(crate) fn read(json: &str, key: &SubjectKey) -> Result<(Topic, Option<Subject>), Unusable> {
    let [status, cpf] = root(json, ["status", "cpf"])?;
    let topic = topic("status", status)?;
    let cpf = cpf.and_then(scalar).and_then(|text| TaxId::new(&text));
    Ok((topic, cpf.map(|cpf| Subject::new("prescription", &key.hash(cpf.bare())))))
}

choice! {
    /// What became of a renewal.
    Status {
        /// Asked for.
        Pending = "pending",
        /// Being looked at.
        InAnalysis = "in_analysis",
        /// Refused.
        Rejected = "rejected",
        /// Renewed.
        Renewed = "renewed",
    }
}

/// The body.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(expecting = "an object", rename_all = "camelCase")]
pub struct Prescription {
    /// The person's e-mail address.
    #[serde(default, deserialize_with = "optional")]
    pub email: Option<Personal>,
    /// The person.
    pub cpf: TaxId,
    /// What became of the renewal.
    pub status: Status,
    /// Why it was refused.
    #[serde(default, deserialize_with = "optional")]
    pub reason: Option<Personal>,
    /// What was measured.
    #[serde(default, deserialize_with = "null_is_default")]
    pub eye_measurements: EyeMeasurements,
    /// None, one or two PDF documents: for glasses, for contact lenses.
    #[serde(default, deserialize_with = "null_is_default")]
    pub files: Vec<File>,
    /// What the partner put into the initial token.
    #[serde(default)]
    pub partner_params: PartnerParams,
}

/// Both eyes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(expecting = "an object")]
pub struct EyeMeasurements {
    /// The right eye.
    #[serde(default)]
    pub right: Option<Eye>,
    /// The left eye.
    #[serde(default)]
    pub left: Option<Eye>,
}

/// One eye.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(expecting = "an object")]
pub struct Eye {
    /// Spherical power.
    #[serde(default, deserialize_with = "optional")]
    pub spherical: Option<Dioptres>,
    /// Cylindrical power.
    #[serde(default, deserialize_with = "optional")]
    pub cylindrical: Option<Dioptres>,
    /// The cylinder's axis.
    #[serde(default, deserialize_with = "optional")]
    pub axis: Option<Degrees>,
    /// Addition for reading.
    #[serde(default, deserialize_with = "optional")]
    pub add: Option<Dioptres>,
}

/// A document.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(expecting = "an object", rename_all = "camelCase")]
pub struct File {
    /// Its title.
    #[serde(default, deserialize_with = "optional")]
    pub file_name: Option<Personal>,
    /// Where it is.
    pub file_url: Personal,
}

/// What the partner put into the token that started the renewal: part of what identifies it. May hold
/// personal data, so `Debug` does not show it.
///
/// The text is canonical: keys sorted, no spaces, strings escaped in one way, numbers as written. Equal texts
/// are the same parameters. Missing, `null` and `{}` are the same.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PartnerParams(String);

impl PartnerParams {
    /// The canonical JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for PartnerParams {
    fn default() -> Self {
        Self("{}".to_owned())
    }
}

impl fmt::Debug for PartnerParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[personal]")
    }
}

impl Value for PartnerParams {
    fn read(json: &str) -> Result<Self, String> {
        match kind(json) {
            "null" => Ok(Self::default()),
            _ => canonical(json).map(Self).ok_or_else(|| "expected JSON that is Unicode text".to_owned()),
        }
    }
}

deserialize!(PartnerParams);

/// The canonical text of a JSON value. Recursion is bounded by the depth that the ingress lets through.
fn canonical(json: &str) -> Option<String> {
    let text = |raw: &RawValue| canonical(raw.get());
    match kind(json) {
        "an object" => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(json).ok()?;
            let fields: Option<Vec<String>> = fields
                .into_iter()
                .map(|(name, value)| Some(format!("{}:{}", serde_json::to_string(&name).ok()?, text(value)?)))
                .collect();
            Some(format!("{{{}}}", fields?.join(",")))
        }
        "an array" => {
            let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
            let items: Option<Vec<String>> = items.into_iter().map(text).collect();
            Some(format!("[{}]", items?.join(",")))
        }
        "a string" => serde_json::to_string(&serde_json::from_str::<String>(json).ok()?).ok(),
        _ => Some(json.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn prescription(body: &str) -> Result<Prescription, String> {
        parse(body.as_bytes(), false).map_err(|error| error.to_string())
    }

    #[test]
    fn the_documented_body_parses_in_full_and_shows_nothing_in_debug() {
        let p = prescription(include_str!("../fixtures/beneficio-visao/renewed.json")).unwrap();
        assert_eq!((p.cpf.bare(), p.status, p.reason.as_ref()), ("99999999999", Status::Renewed, None));
        let right = p.eye_measurements.right.as_ref().unwrap();
        assert_eq!(right.spherical.unwrap().to_string(), "-0.75");
        assert_eq!(right.axis.unwrap().to_string(), "0");
        assert_eq!(p.files.len(), 2);
        assert_eq!(p.files[1].file_name.as_ref().unwrap().expose(), "Prescrição de lentes de contato");
        assert_eq!(p.partner_params.as_str(), "{}");
        let debug = format!("{p:?}");
        for hidden in ["99999999999", "protected", "0.75", "Prescrição", "document.pdf"] {
            assert!(!debug.contains(hidden), "{hidden} in {debug}");
        }
    }

    #[test]
    fn only_person_and_status_are_required() {
        let p = prescription(
            r#"{"cpf": "529.982.247-25", "status": "pending",
                "files": null, "eyeMeasurements": null, "partnerParams": null}"#,
        )
        .unwrap();
        assert_eq!(
            (p.cpf.bare(), p.files.len(), p.partner_params),
            ("52998224725", 0, PartnerParams::default())
        );
        assert_eq!(p.eye_measurements, EyeMeasurements::default());
        let p = prescription(r#"{"cpf": "1", "status": "rejected", "reason": "ilegível"}"#).unwrap();
        assert_eq!(p.reason.unwrap().expose(), "ilegível");
    }

    #[test]
    fn the_order_of_keys_does_not_matter_in_partner_params() {
        let check =
            |json: &str, expect: &str| assert_eq!(PartnerParams::read(json).unwrap().as_str(), expect);
        check(
            r#"{"b": [1, {"y": 1.50, "x": null}], "a": "\u00e7\/"}"#,
            r#"{"a":"ç/","b":[1,{"x":null,"y":1.50}]}"#,
        );
        check("{ }", "{}");
        check("null", "{}");
        check(r#""token""#, r#""token""#);
        assert!(PartnerParams::read(r#"{"a": "\ud800"}"#).is_err());
    }

    #[test]
    fn a_broken_contract_is_named_by_its_path_and_quotes_no_health_data() {
        let check = |rest: &str, expect: &str| {
            assert_eq!(prescription(&format!(r#"{{"cpf": "1", {rest}}}"#)).unwrap_err(), expect);
        };
        check(r#""email": """#, "status: missing");
        check(
            r#""status": "lost""#,
            r#"status: expected "pending" or "in_analysis" or "rejected" or "renewed", got "lost""#,
        );
        check(
            r#""status": "renewed", "eyeMeasurements": {"left": {"axis": "12x"}}"#,
            "eyeMeasurements.left.axis: expected a decimal, got a string",
        );
        check(r#""status": "renewed", "files": [{}]"#, "files[0].fileUrl: missing");
    }
}
