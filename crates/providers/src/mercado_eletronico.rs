//! Mercado Eletrônico: e-procurement, as thin notifications `{topic, data}` of ids and status codes.
//!
//! The provider gives no order of facts, and the same body can come again with good reason (103, 101, 103):
//! of two notices about the same thing, the one received later is the newer.

mod documents;
mod purchase;

use event::{Subject, Topic};

use crate::contract::{Object, Parsed, Payload, parse};
use crate::fields::{Fields, root, subject, topic};
use crate::provider::Declaration;
use crate::{ContractError, Id, SubjectKey, TopicInfo, Unusable, scan};

pub use self::documents::{InvoiceDocument, SupplierDocument};
pub use self::purchase::{Purchase, PurchaseDocument};

/// The provider's name.
pub const NAME: &str = "mercado-eletronico";

/// Headers that the provider may send about the delivery. The body alone says what happened.
const KEEP_HEADERS: &[&str] = &["x-me-attempt", "x-me-topic", "x-me-event-id"];

macro_rules! documented {
    ($name:literal, $meaning:literal, $subject:literal) => {
        TopicInfo {
            name: $name,
            meaning: $meaning,
            subject: $subject,
            example: Some(include_str!(concat!("../fixtures/mercado-eletronico/", $name, ".json"))),
        }
    };
}

/// Every documented topic.
pub const TOPICS: &[TopicInfo] = &[
    documented!("order.received", "a supplier received an order", "data.orderId"),
    documented!("order.created", "an order was created", "data.orderId"),
    documented!("order.canceled", "an order was cancelled", "data.orderId"),
    documented!("order.delivered", "an item of an order was delivered", "data.orderId"),
    documented!("order.updated", "an order was changed", "data.orderId"),
    documented!("prerequest.submitted", "a pre-request was submitted", "data.preRequestId"),
    documented!("request.approved", "a request was approved", "data.requestId"),
    documented!("request.status", "the status of a request changed", "data.requestId"),
    documented!(
        "request-item.status.updated",
        "the status of an item of a request changed",
        "data.requestId"
    ),
    documented!("rfq.created", "a request for quotation was created", "data.rfqId"),
    documented!("rfq.closed", "a request for quotation was closed", "data.rfqId"),
    documented!("rfq.expired", "a request for quotation expired", "data.rfqId"),
    documented!("rfq.canceled", "a request for quotation was cancelled", "data.rfqId"),
    documented!("rfq.updated", "a request for quotation was changed", "data.rfqId"),
    documented!("rfq.received", "a supplier received a request for quotation", "data.rfqId"),
    documented!("rfq.answer.created", "a supplier answered a request for quotation", "data.rfqId"),
    // Its documented example carries the topic `rfq.answer.created`, so it is no example of this one.
    TopicInfo {
        name: "rfq.answer.updated",
        meaning: "a supplier changed the answer to a request for quotation",
        subject: "data.rfqId",
        example: None,
    },
    documented!("preorder.created", "a pre-order was created", "data.preOrderId"),
    documented!("preorder.approved", "a pre-order was approved", "data.preOrderId"),
    documented!("preorder.status", "the status of a pre-order changed", "data.preOrderId"),
    documented!("service-sheet.created", "a service sheet was created", "data.serviceSheetId"),
    documented!("service-sheet.approved", "a service sheet was approved", "data.serviceSheetId"),
    documented!("service-sheet.status", "the status of a service sheet changed", "data.serviceSheetId"),
    documented!(
        "service-sheet-document.status",
        "the status of a service sheet's document changed",
        "data.serviceSheetHeaderId"
    ),
    documented!("contract.created", "a contract was created", "data.contractId"),
    documented!("contract.approved", "a contract was approved", "data.contractId"),
    documented!("contract.updated", "a contract was changed", "data.contractId"),
    documented!("contract.status", "the status of a contract changed", "data.contractId"),
    // Newer versions of the documentation name these two and show no body.
    TopicInfo {
        name: "contract.attachment.created",
        meaning: "a file was attached to a contract",
        subject: "data.contractId",
        example: None,
    },
    TopicInfo {
        name: "contract.attachment.deleted",
        meaning: "a file was removed from a contract",
        subject: "data.contractId",
        example: None,
    },
    documented!("invoice.status", "the status of an invoice changed", "data.invoiceId"),
    documented!("invoice.created", "an invoice was created", "data.invoiceId"),
    documented!("invoice.updated", "an invoice was changed", "data.invoiceId"),
    documented!(
        "invoice.creditmemo.requested",
        "a credit memo was requested for an invoice",
        "data.invoiceId"
    ),
    documented!("invoice.attachment.created", "a file was attached to an invoice", "data.invoiceId"),
    documented!("invoice.attachment.deleted", "a file was removed from an invoice", "data.invoiceId"),
    documented!("supplier.created", "a supplier was created", "data.supplierId"),
    documented!("supplier.updated", "a supplier was changed", "data.supplierId"),
    documented!("supplier.approved", "a supplier was approved", "data.supplierId"),
    documented!("supplier.approval.pending", "a supplier waits for approval", "data.supplierId"),
    documented!(
        "integration.result",
        "an integration request was carried out or refused",
        "data.correlationId"
    ),
    documented!(
        "integration.supplier.result",
        "an integration request about a supplier was carried out or refused",
        "data.correlationId"
    ),
    documented!("product.created", "a product was created", "data.productId"),
    documented!("product.updated", "a product was changed", "data.productId"),
];

/// The id fields of `data` and the entity that each identifies. An unknown topic is about the first one it
/// has: what is bought comes before the parties to it.
const IDS: [(&str, &str); 13] = [
    ("invoiceId", "invoice"),
    ("orderId", "order"),
    ("rfqId", "rfq"),
    ("preRequestId", "prerequest"),
    ("requestId", "request"),
    ("preOrderId", "preorder"),
    ("serviceSheetId", "service-sheet"),
    ("serviceSheetHeaderId", "service-sheet-document"),
    ("contractId", "contract"),
    ("productId", "product"),
    ("correlationId", "integration"),
    ("deliveryId", "delivery"),
    ("supplierId", "supplier"),
];

/// The declaration of the provider.
pub(crate) fn declaration() -> Declaration {
    Declaration {
        name: NAME,
        title: "Mercado Eletrônico",
        topics: TOPICS,
        keep_headers: KEEP_HEADERS,
        personal: &[],
        duplicates: None,
        polling: None,
        api: Some(&documents::API),
        read,
    }
}

fn read(fields: &Fields<'_>, _: &SubjectKey) -> Result<(Topic, Option<Subject>), Unusable> {
    let [name, data] = root(fields, ["topic", "data"])?;
    let topic = topic("topic", name)?;
    let ids = scan::first(data.unwrap_or("null"), IDS.map(|(field, _)| field));
    let subject_at = |index: usize| {
        let (field, entity) = IDS[index];
        subject(entity, format_args!("data.{field}"), ids[index])
    };
    let documented = TOPICS.iter().find(|info| info.name == topic.as_str()).and_then(id_index);
    for index in documented.into_iter().chain(0..IDS.len()) {
        if let Some(subject) = subject_at(index)? {
            return Ok((topic, Some(subject)));
        }
    }
    Ok((topic, None))
}

/// The place in [`IDS`] of the id that a documented topic is about.
fn id_index(info: &TopicInfo) -> Option<usize> {
    IDS.iter().position(|(field, _)| info.subject.strip_prefix("data.") == Some(field))
}

/// The entity and the field of the id that the documented topics of this one's family are about. A family is the topics with
/// the same first word: those of `order` are about an order, in `data.orderId`.
pub fn family(topic: &str) -> Option<(&'static str, &'static str)> {
    let info = TOPICS.iter().find(|info| first_word(info.name) == first_word(topic))?;
    id_index(info).map(|index| (IDS[index].1, info.subject))
}

fn first_word(topic: &str) -> &str {
    topic.split('.').next().unwrap_or_default()
}

/// Whether the provider documents the topic.
pub fn is_documented(topic: &str) -> bool {
    TOPICS.iter().any(|info| info.name == topic)
}

/// The data of a notice. `None` if it has another form and the provider does not document the topic: then there is no contract.
///
/// # Errors
/// The body of a documented topic breaks its contract.
pub fn notice<T: Payload>(
    topic: &str,
    data: &[u8],
    content_type: &str,
) -> Result<Option<Parsed<T>>, ContractError> {
    match parse::<Notice<T>>(data, content_type) {
        Ok(Parsed { payload, ignored }) => Ok(Some(Parsed { payload: payload.data, ignored })),
        Err(_) if !is_documented(topic) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The body. Which `data` it holds depends on the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice<T> {
    /// The ids and codes.
    pub data: T,
}

impl<T: Payload> Payload for Notice<T> {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        Ok(Self { data: object.part("data")? })
    }
}

/// The data of `invoice.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    /// The invoice.
    pub invoice_id: Id,
    /// On `invoice.status`: the code of the status.
    pub status: Option<Id>,
    /// On `invoice.status`: the code of the status before.
    pub previous_status: Option<Id>,
    /// On `invoice.attachment.*`: the file.
    pub attachment_id: Option<Id>,
}

impl Payload for Invoice {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        Ok(Self {
            invoice_id: object.required("invoiceId")?,
            status: object.optional("status"),
            previous_status: object.optional("previousStatus"),
            attachment_id: object.optional("attachmentId"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topics_of_a_family_are_about_the_same_id_and_what_it_identifies() {
        for info in TOPICS {
            assert_eq!(family(info.name).map(|(_, field)| field), Some(info.subject), "{}", info.name);
        }
        assert_eq!(family("order.archived"), Some(("order", "data.orderId")));
        assert_eq!(family("request-item.x"), Some(("request", "data.requestId")));
        assert_eq!(family("parcel.sent"), None);
    }

    #[test]
    fn only_a_documented_topic_has_a_contract_to_break() {
        let read = |topic: &str| notice::<Invoice>(topic, b"[]", "");
        assert!(read("invoice.created").is_err());
        assert_eq!(read("invoice.archived"), Ok(None));
    }

    fn invoice(body: &str) -> Result<Invoice, String> {
        parse::<Notice<Invoice>>(body.as_bytes(), "")
            .map(|parsed| parsed.payload.data)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_documented_invoice_body_parses() {
        let bodies: Vec<_> = TOPICS.iter().filter(|t| t.name.starts_with("invoice.")).collect();
        assert_eq!(bodies.len(), 6);
        for topic in bodies {
            let invoice = invoice(topic.example.unwrap()).unwrap();
            assert_eq!(invoice.status.is_some(), topic.name == "invoice.status", "{}", topic.name);
            assert_eq!(invoice.attachment_id.is_some(), topic.name.contains("attachment"), "{}", topic.name);
        }
    }

    #[test]
    fn codes_keep_their_text_as_strings_and_as_numbers() {
        let invoice =
            invoice(r#"{"data": {"invoiceId": "0004", "status": 103, "previousStatus": "101"}}"#).unwrap();
        assert_eq!(invoice.invoice_id.as_str(), "0004");
        assert_eq!(invoice.status.unwrap().as_str(), "103");
        assert_eq!(invoice.previous_status.unwrap().as_str(), "101");
    }

    #[test]
    fn an_invoice_without_an_id_is_named() {
        assert_eq!(invoice(r#"{"data": {}}"#).unwrap_err(), "data.invoiceId: missing");
        assert_eq!(invoice(r#"{"topic": "invoice.created"}"#).unwrap_err(), "data: missing");
    }
}
