//! The documents that thin events name: where the API of a provider has each, and how a fetched one is read.
//!
//! A provider declares its [`Api`] once. The role `documents` fetches what an event names and announces it; domains read the
//! announcement with [`fetched`].

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::contract::{Object, Parsed, Payload, parse};
use crate::value::{Id, Sequence, Value};
use crate::{ContractError, Personal, body, scan};

/// What is not escaped in a path (RFC 3986, section 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The API of a provider.
#[derive(Debug)]
pub struct Api {
    /// How its requests are authenticated.
    pub authentication: ApiAuthentication,
    /// The documents that it has.
    pub documents: &'static [Document],
    /// The files that its events have addresses of.
    pub files: Option<Files>,
}

/// How requests to an API are authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiAuthentication {
    /// With an access token, for which `{"clientId", "clientSecret"}` is posted to this path; the answer is
    /// `{"accessToken", "expiresIn"}`.
    JsonToken(&'static str),
    /// With the same headers each time.
    Headers,
}

/// A kind of document of an API.
#[derive(Debug)]
pub struct Document {
    /// The topics of the events that name one.
    pub topics: &'static [&'static str],
    /// What it is about, as in the subjects of events.
    pub entity: &'static str,
    /// The fields of `data` that it is known by here: the first that is present.
    pub key: &'static [&'static str],
    /// The field of `data` that its address has.
    pub id: &'static str,
    /// Its address below that of the API; `{id}` stands for the id.
    pub path: &'static str,
    /// Fields of the document that name other documents, by entity.
    pub names: &'static [(&'static str, &'static str)],
}

/// The address of a file, and its name.
pub type FileAddress = (Personal, Option<Personal>);

/// Files whose addresses events have.
#[derive(Debug)]
pub struct Files {
    /// The topics of the events.
    pub topics: &'static [&'static str],
    /// Reads them from a body with this content type.
    pub read: fn(&[u8], &str) -> Vec<FileAddress>,
}

/// The entity of a file.
pub const FILE: &str = "file";

/// What a file is known by: a hash of its address and name, so that it is the same file when its event is sent again.
pub fn file_key(address: &str, name: Option<&str>) -> String {
    let mut hash = Sha256::new();
    hash.update(address);
    hash.update([0]);
    hash.update(name.unwrap_or_default());
    crate::to_hex(&hash.finalize()[..16])
}

/// A document that an event, or another document, names.
#[derive(Clone, PartialEq, Eq)]
pub struct Named {
    /// What it is about.
    pub entity: &'static str,
    /// What it is known by; of a file, its [`file_key`].
    pub external_id: String,
    /// Where it is.
    pub place: Place,
    /// The name of a file.
    pub name: Option<Personal>,
}

/// Where a document is.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    /// Below the address of the API.
    Path(String),
    /// At this address, which may contain a credential.
    Url(Personal),
    /// Nowhere: the event lacks this field, or it cannot be part of an address.
    Unknown(&'static str),
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Named").field("entity", &self.entity).finish_non_exhaustive()
    }
}

impl Api {
    /// The topics of the events that name a document or have the address of a file.
    pub fn topics(&self) -> impl Iterator<Item = &'static str> {
        let documents = self.documents.iter().flat_map(|document| document.topics);
        documents.chain(self.files.iter().flat_map(|files| files.topics)).copied()
    }

    /// The documents and files that an event of this topic names. One whose body cannot be read names none.
    pub fn named_by_event(&self, topic: &str, event: &[u8], content_type: &str) -> Vec<Named> {
        let Ok(json) = body::json(event, Some(content_type)) else { return Vec::new() };
        let [data] = scan::first(&json.text, ["data"]);
        let field = |name: &str| scan::first(data.unwrap_or("null"), [name])[0];
        let documents = self.documents.iter().filter(|document| document.topics.contains(&topic));
        let named = documents.filter_map(|document| {
            let key = document.key.iter().find_map(|name| read_id(field(name)))?;
            document.named(key, field(document.id))
        });
        let files = self.files.iter().filter(|files| files.topics.contains(&topic));
        named.chain(files.flat_map(|files| files.named(event, content_type))).collect()
    }

    /// The documents that a document of this entity names.
    pub fn named_by_document(&self, entity: &str, document: &[u8]) -> Vec<Named> {
        let Some(declared) = self.document(entity) else { return Vec::new() };
        let Ok(json) = body::json(document, None) else { return Vec::new() };
        let named = declared.names.iter().filter_map(|(field, entity)| {
            let [id] = scan::first(&json.text, [*field]);
            self.document(entity)?.named(read_id(id)?, id)
        });
        named.collect()
    }

    fn document(&self, entity: &str) -> Option<&'static Document> {
        self.documents.iter().find(|document| document.entity == entity)
    }
}

impl Document {
    /// The document that is known by a key, and by an id in its address.
    fn named(&self, key: Id, id: Option<&str>) -> Option<Named> {
        // Dots alone would be another path.
        let id = read_id(id).filter(|id| !id.as_str().bytes().all(|byte| byte == b'.'));
        let place = match id {
            Some(id) => {
                let id = utf8_percent_encode(id.as_str(), ESCAPED).to_string();
                Place::Path(self.path.replace("{id}", &id))
            }
            None => Place::Unknown(self.id),
        };
        Some(Named { entity: self.entity, external_id: key.into(), place, name: None })
    }
}

fn read_id(json: Option<&str>) -> Option<Id> {
    json.filter(|json| !Id::is_absent(json)).and_then(|json| Id::read(json).ok())
}

impl Files {
    fn named(&self, event: &[u8], content_type: &str) -> Vec<Named> {
        let named = |(url, name): FileAddress| Named {
            entity: FILE,
            external_id: file_key(url.expose(), name.as_ref().map(Personal::expose)),
            place: Place::Url(url),
            name,
        };
        (self.read)(event, content_type).into_iter().map(named).collect()
    }
}

/// A document as it is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched<T> {
    /// The name of the source whose event asked for it.
    pub source: String,
    /// What it is known by.
    pub external_id: String,
    /// Its number among the versions of the document, from 1 on: the order of facts.
    pub version: i64,
    /// What the provider answered.
    pub document: T,
}

impl<T: Payload> Payload for Fetched<T> {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        Ok(Self {
            source: object.required("source")?,
            external_id: object.required("external_id")?,
            version: object.required::<Sequence>("version")?.0,
            document: object.part("document")?,
        })
    }
}

/// A file as it is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedFile {
    /// The name of the source whose event has its address.
    pub source: String,
    /// Its [`file_key`].
    pub external_id: String,
    /// Its id in the archive.
    pub id: String,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// Its size in bytes.
    pub size: i64,
    /// When it was archived (RFC 3339).
    pub fetched_at: String,
}

impl Payload for ArchivedFile {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        Ok(Self {
            source: object.required("source")?,
            external_id: object.required("external_id")?,
            id: object.required("id")?,
            sha256: object.required("sha256")?,
            size: object.required::<Sequence>("size")?.0,
            fetched_at: object.required("fetched_at")?,
        })
    }
}

/// Reads the data of an announced document, a [`Fetched`] or an [`ArchivedFile`], of this provider; `None` if it is another
/// provider's.
pub fn fetched<T: Payload>(
    data: &[u8],
    content_type: &str,
    provider: &str,
) -> Result<Option<Parsed<T>>, ContractError> {
    let json = body::json(data, Some(content_type))?;
    let [named] = scan::first(&json.text, ["provider"]);
    let is_its_own =
        named.is_some_and(|text| serde_json::from_str::<&str>(text).is_ok_and(|name| name == provider));
    is_its_own.then(|| parse(data, content_type)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Provider, gestao_online, mercado_eletronico};

    fn named(provider: &str, topic: &str, body: &str) -> Vec<(&'static str, String, String)> {
        let provider = Provider::named(provider).unwrap();
        let place = |place: &Place| match place {
            Place::Path(path) => path.clone(),
            Place::Url(url) => url.expose().to_owned(),
            Place::Unknown(field) => format!("no {field}"),
        };
        let named = provider.api().unwrap().named_by_event(topic, body.as_bytes(), "application/json");
        named.into_iter().map(|one| (one.entity, one.external_id.clone(), place(&one.place))).collect()
    }

    fn check(provider: &str, topic: &str, body: &str, expect: &[(&'static str, &str, &str)]) {
        let named = named(provider, topic, body);
        let named: Vec<_> =
            named.iter().map(|(entity, id, place)| (*entity, id.as_str(), place.as_str())).collect();
        assert_eq!(named, expect, "{topic} {body}");
    }

    #[test]
    fn an_event_names_its_document_by_the_address_that_the_api_has_it_at() {
        let (me, go) = (mercado_eletronico::NAME, gestao_online::NAME);
        let invoice = r#"{"topic": "invoice.status", "data": {"invoiceId": "32211"}}"#;
        check(me, "invoice.status", invoice, &[("invoice", "32211", "/v1/invoices/32211")]);
        check(me, "invoice.attachment.created", invoice, &[]);
        check(me, "made.up", invoice, &[]);
        let order = r#"{"topic": "", "data": {"orderId": 7}}"#;
        check(me, "order.created", order, &[("order", "7", "/v1/orders/7")]);
        check(me, "order.received", order, &[("order", "7", "/v1/orders/supplier-orders/7")]);
        let order = r#"{"event_id": "ORDER_CREATED", "data": {"id": "100", "code": "0000593098"}}"#;
        check(go, "ORDER_CREATED", order, &[("order", "0000593098", "/order-external/100")]);
        let old = r#"{"event_id": "ORDER_CREATED", "data": {"code": "0000593098"}}"#;
        check(go, "ORDER_CREATED", old, &[("order", "0000593098", "no id")]);
        check(go, "ORDER_CREATED", "{\"data\": []}", &[]);
        check(go, "ORDER_CREATED", "no JSON", &[]);
    }

    #[test]
    fn an_id_stays_one_segment_of_its_path() {
        let check = |id: &str, expect: &str| {
            let body = format!(r#"{{"data": {{"invoiceId": "{id}"}}}}"#);
            check(mercado_eletronico::NAME, "invoice.created", &body, &[("invoice", id, expect)]);
        };
        check("0004", "/v1/invoices/0004");
        check("../auth/tokens?a=b#c", "/v1/invoices/..%2Fauth%2Ftokens%3Fa%3Db%23c");
        check("..", "no invoiceId");
        check("%2e%2e", "/v1/invoices/%252e%252e");
    }

    #[test]
    fn every_documented_topic_with_a_document_finds_it_in_its_example() {
        for provider in Provider::builtin() {
            let Some(api) = provider.api() else { continue };
            for topic in api.topics() {
                let info = provider.topics().iter().find(|info| info.name == topic);
                let info = info.unwrap_or_else(|| panic!("{topic} is not documented"));
                let Some(example) = info.example else { continue };
                let named = named(provider.name().as_str(), topic, example);
                assert!(
                    !named.is_empty() && !named.iter().any(|(.., place)| place.starts_with("no ")),
                    "{topic}"
                );
            }
        }
    }

    #[test]
    fn an_invoice_names_its_supplier() {
        let provider = Provider::named(mercado_eletronico::NAME).unwrap();
        let api = provider.api().unwrap();
        let named = api.named_by_document("invoice", br#"{"supplierId": 900, "totalDue": 1.5}"#);
        assert_eq!((named.len(), named[0].entity, named[0].external_id.as_str()), (1, "supplier", "900"));
        assert!(named[0].place == Place::Path("/v1/suppliers/900".to_owned()));
        assert!(api.named_by_document("invoice", b"{}").is_empty());
        assert!(api.named_by_document("order", br#"{"supplierId": 900}"#).is_empty());
    }

    #[test]
    fn an_announced_document_is_read_only_by_who_knows_its_provider() {
        let data =
            br#"{"provider": "mercado-eletronico", "source": "me", "entity": "invoice", "external_id": "7",
            "version": 2, "document": {"invoiceNumber": 123, "totalDue": 10.10}}"#;
        let read = |provider| {
            fetched::<Fetched<mercado_eletronico::InvoiceDocument>>(data, "application/json", provider)
        };
        let Parsed { payload, .. } = read(mercado_eletronico::NAME).unwrap().unwrap();
        assert_eq!((payload.source.as_str(), payload.external_id.as_str(), payload.version), ("me", "7", 2));
        assert_eq!(payload.document.total.unwrap().0, 1010);
        assert!(read(gestao_online::NAME).unwrap().is_none());
    }
}
