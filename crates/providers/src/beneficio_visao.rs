//! Benefício Visão: prescription renewals ("Troca de Receitas"). Health data, sensitive under the LGPD.
//!
//! The provider gives no prescription id and no order of facts: a request is known by its source, the CPF and
//! the `partnerParams`, and of two notices about it the one received later is the newer.

use std::fmt;

use event::{Subject, Topic};

use crate::compact::compact;
use crate::contract::{Object, Payload, parse};
use crate::documents::{Api, ApiAuthentication, FileAddress, Files};
use crate::fields::{Fields, root, topic};
use crate::provider::Declaration;
use crate::unexpected::Unexpected;
use crate::value::{Value, choice};
use crate::{ContractError, Degrees, Dioptres, Personal, SubjectKey, TaxId, TopicInfo, Unusable};

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

/// Its events have the addresses of files, which expire.
static API: Api = Api {
    authentication: ApiAuthentication::Headers,
    documents: &[],
    files: Some(Files { topics: &["renewed"], read: files }),
};

/// Address and name of each file, numbered as the payload has them.
fn files(event: &[u8], content_type: &str) -> Vec<FileAddress> {
    let files =
        parse::<Prescription>(event, content_type).map(|parsed| parsed.payload.files).unwrap_or_default();
    files.into_iter().map(|File { file_name, file_url }| (file_url, file_name)).collect()
}

/// The declaration of the provider.
pub(crate) fn declaration() -> Declaration {
    Declaration {
        name: NAME,
        title: "Benefício Visão",
        topics: TOPICS,
        keep_headers: &[],
        personal: &["cpf", "email", "eyeMeasurements", "files", "reason", "partnerParams"],
        duplicates: None,
        polling: None,
        api: Some(&API),
        read,
    }
}

fn read(fields: &Fields<'_>, key: &SubjectKey) -> Result<(Topic, Option<Subject>), Unusable> {
    let [status, cpf] = root(fields, ["status", "cpf"])?;
    let topic = topic("status", status)?;
    let cpf = cpf.and_then(|json| TaxId::read(json).ok());
    Ok((topic, cpf.map(|cpf| Subject::new("prescription", &key.hash(cpf.bare())))))
}

choice! {
    /// The outcome of a renewal.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prescription {
    /// The person's e-mail address.
    pub email: Option<Personal>,
    /// The person.
    pub cpf: TaxId,
    /// The outcome of the renewal.
    pub status: Status,
    /// Why it was refused.
    pub reason: Option<Personal>,
    /// What was measured.
    pub eye_measurements: EyeMeasurements,
    /// None, one or two PDF documents: for glasses, for contact lenses.
    pub files: Vec<File>,
    /// What the partner put into the initial token.
    pub partner_params: PartnerParams,
}

impl Payload for Prescription {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        Ok(Self {
            email: object.optional("email"),
            cpf: object.required("cpf")?,
            status: object.required("status")?,
            reason: object.optional("reason"),
            // A measurement that cannot be read must not look like one that was not taken.
            eye_measurements: object.checked_part("eyeMeasurements")?.unwrap_or_default(),
            files: object.optional_list("files")?,
            partner_params: object.checked("partnerParams")?.unwrap_or_default(),
        })
    }
}

/// Both eyes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EyeMeasurements {
    /// The right eye.
    pub right: Option<Eye>,
    /// The left eye.
    pub left: Option<Eye>,
}

impl Payload for EyeMeasurements {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        Ok(Self { right: object.checked_part("right")?, left: object.checked_part("left")? })
    }
}

/// One eye.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eye {
    /// Spherical power.
    pub spherical: Option<Dioptres>,
    /// Cylindrical power.
    pub cylindrical: Option<Dioptres>,
    /// The cylinder's axis.
    pub axis: Option<Degrees>,
    /// Addition for reading.
    pub add: Option<Dioptres>,
}

impl Payload for Eye {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        Ok(Self {
            spherical: object.checked("spherical")?,
            cylindrical: object.checked("cylindrical")?,
            axis: object.checked("axis")?,
            add: object.checked("add")?,
        })
    }
}

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its title.
    pub file_name: Option<Personal>,
    /// Where it is.
    pub file_url: Personal,
}

impl Payload for File {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        Ok(Self { file_name: object.optional("fileName"), file_url: object.required("fileUrl")? })
    }
}

/// What the partner put into the token that started the renewal; part of its identity. May contain personal data, so
/// `Debug` does not show it.
///
/// The text is canonical: keys sorted, no spaces, strings escaped in one way and without NUL, numbers as written, but
/// integral ones as integers. Equal texts mean equal parameters. Missing, `null`, `{}` and `[]`, which PHP writes for
/// `{}`, are equal.
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
    fn read(json: &str) -> Result<Self, Unexpected> {
        Ok(match compact(json) {
            null if null == "null" => Self::default(),
            text => Self(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn prescription(body: &str) -> Result<Prescription, String> {
        parse(body.as_bytes(), "").map(|parsed| parsed.payload).map_err(|error| error.to_string())
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
        check("[ ]", "{}");
        check("null", "{}");
        check("[1]", "[1]");
        check(r#""token""#, r#""token""#);
    }

    #[test]
    fn a_broken_contract_is_named_by_its_path_and_quotes_no_health_data() {
        let check = |rest: &str, expect: &str| {
            assert_eq!(prescription(&format!(r#"{{"cpf": "1", {rest}}}"#)).unwrap_err(), expect);
        };
        check(r#""email": """#, "status: missing");
        check(
            r#""status": "lost""#,
            r#"status: expected "pending" or "in_analysis" or "rejected" or "renewed", got a text of 4 characters"#,
        );
        check(
            r#""status": "renewed", "eyeMeasurements": {"left": {"axis": "12x"}}"#,
            "eyeMeasurements.left.axis: expected a decimal, got a text of 3 characters",
        );
        check(
            r#""status": "renewed", "eyeMeasurements": [{"axis": 1}, {"axis": 2}]"#,
            "eyeMeasurements: expected an object, got an array",
        );
        check(r#""status": "renewed", "files": "x""#, "files: expected an array, got a text of 1 character");
        check(r#""status": "renewed", "files": [{}]"#, "files[0].fileUrl: missing");
    }
    #[test]
    fn an_array_is_an_object_only_where_php_would_write_one() {
        let read = |rest: &str| {
            let body = format!(r#"{{"cpf": 12345678909, "status": "renewed", {rest}}}"#);
            let parsed = parse::<Prescription>(body.as_bytes(), "").unwrap();
            (parsed.payload, parsed.ignored.to_string())
        };
        let (p, ignored) = read(r#""partnerParams": [], "eyeMeasurements": [], "files": []"#);
        assert_eq!((p.partner_params, p.eye_measurements, p.files), Default::default());
        assert_eq!((p.cpf.bare(), ignored.as_str()), ("12345678909", ""));
        let (p, _) = read(r#""eyeMeasurements": {"right": {"add": "1,25"}, "left": []}"#);
        assert_eq!(p.eye_measurements.right.unwrap().add.unwrap().to_string(), "1.25");
        let (p, _) = read(r#""files": {"fileUrl": "https://example.com/1.pdf"}"#);
        assert_eq!(p.files.len(), 1);
    }
}
