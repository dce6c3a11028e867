//! GO / Gestão Online: orders, their payment, invoice and delivery, as `{event_id, data}`.
//!
//! The provider gives no order of facts: of two notices about an order, the one received later is the newer.

mod documents;

use event::{Subject, Topic};

use crate::contract::{Object, Payload};
use crate::fields::{Fields, root, subject, topic};
use crate::provider::Declaration;
use crate::{ContractError, Date, Id, Personal, SubjectKey, TaxId, TopicInfo, Unusable, scan};

pub use self::documents::{FinancialItem, OrderDocument};

/// The provider's name.
pub const NAME: &str = "gestao-online";

macro_rules! topic_info {
    ($name:literal, $meaning:literal) => {
        TopicInfo {
            name: $name,
            meaning: $meaning,
            subject: "data.code",
            example: Some(include_str!(concat!("../fixtures/gestao-online/", $name, ".json"))),
        }
    };
}

/// Every documented topic.
pub const TOPICS: &[TopicInfo] = &[
    topic_info!("ORDER_CREATED", "an order was placed"),
    topic_info!("ORDER_CANCEL", "an order was cancelled"),
    topic_info!("TAX_INVOICE_CHANGE_STATUS", "the status of an order's invoice changed"),
    topic_info!("FINANCIAL_PAYMENT_DISCHARGE", "an order was paid"),
    topic_info!("FINANCIAL_PAYMENT_STATUS", "the status of an order's payment changed"),
    topic_info!("ORDER_DELIVERY_CHANGE_STATUS", "the status of an order's delivery changed"),
];

/// What the provider is and how it is read.
pub(crate) fn declaration() -> Declaration {
    Declaration {
        name: NAME,
        title: "GO / Gestão Online",
        topics: TOPICS,
        keep_headers: &[],
        personal: &["document", "name", "email", "phone", "cellphone"],
        duplicates: None,
        polling: None,
        api: Some(&documents::API),
        read,
    }
}

fn read(fields: &Fields<'_>, _: &SubjectKey) -> Result<(Topic, Option<Subject>), Unusable> {
    let [event_id, data] = root(fields, ["event_id", "data"])?;
    let topic = topic("event_id", event_id)?;
    let [code, id] = scan::first(data.unwrap_or("null"), ["code", "id"]);
    let subject = match subject("order", "data.code", code)? {
        None => subject("order", "data.id", id)?,
        code => code,
    };
    Ok((topic, subject))
}

/// The body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The topic: the kind of event, not a unique id.
    pub event_id: String,
    /// The order that the event is about.
    pub data: Order,
}

impl Payload for Notification {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        Ok(Self { event_id: object.required("event_id")?, data: object.part("data")? })
    }
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The order's id; older versions of the provider's system leave it out.
    pub id: Option<Id>,
    /// The order's code: the key that is always there.
    pub code: Option<Id>,
    /// A UUID.
    pub utm_id: Option<Id>,
    /// The day of the order, not of the event.
    pub date: Option<Date>,
    /// A number to which the provider documents no legend.
    pub status: Option<Id>,
    /// The customer.
    pub user: Option<User>,
}

impl Payload for Order {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        Ok(Self {
            // What identifies the order: another field must not take the place of one that cannot be read.
            id: object.checked("id")?,
            code: object.checked("code")?,
            utm_id: object.optional("utmId"),
            date: object.optional("date"),
            status: object.optional("status"),
            user: object.optional_part("user"),
        })
    }
}

impl Order {
    /// What identifies the order: its code, or its id where there is no code.
    pub fn key(&self) -> Result<&Id, ContractError> {
        self.code
            .as_ref()
            .or(self.id.as_ref())
            .ok_or_else(|| ContractError::new("data.code", "missing, and so is data.id"))
    }
}

/// A customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The customer's id.
    pub id: Option<Id>,
    /// CPF or CNPJ.
    pub document: Option<TaxId>,
    /// The name.
    pub name: Option<Personal>,
    /// The e-mail address.
    pub email: Option<Personal>,
    /// The telephone.
    pub phone: Option<Personal>,
    /// The mobile telephone.
    pub cellphone: Option<Personal>,
}

impl Payload for User {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        Ok(Self {
            id: object.optional("id"),
            document: object.optional("document"),
            name: object.optional("name"),
            email: object.optional("email"),
            phone: object.optional("phone"),
            cellphone: object.optional("cellphone"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    #[test]
    fn every_documented_body_parses_in_full() {
        for topic in TOPICS {
            let body = topic.example.unwrap();
            let notification: Notification = parse(body.as_bytes(), "").unwrap().payload;
            assert_eq!(notification.event_id, topic.name);
            let order = notification.data;
            assert_eq!(order.key().unwrap().as_str(), "0000593098");
            assert_eq!(order.id.unwrap().as_str(), "100");
            assert_eq!(order.date.unwrap().to_string(), "2021-03-02");
            assert_eq!(order.status.unwrap().as_str(), "1");
            let user = order.user.unwrap();
            assert_eq!(user.document.unwrap().bare(), "123421341234");
            assert_eq!((user.phone, user.cellphone.unwrap().expose()), (None, "123423434"));
        }
    }

    #[test]
    fn a_broken_body_is_named_by_its_path_and_quotes_no_customer() {
        let check = |data: &str, expect: &str| {
            let body = format!(r#"{{"event_id": "ORDER_CREATED", "data": {data}}}"#);
            let key = parse::<Notification>(body.as_bytes(), "").and_then(|n| n.payload.data.key().cloned());
            assert_eq!(key.unwrap_err().to_string(), expect);
        };
        check(r#"{"status": 1}"#, "data.code: missing, and so is data.id");
        check(r#"{"code": ["x"]}"#, "data.code: expected an identifier (a string or a number), got an array");
        check("[]", "data.code: missing, and so is data.id");
        check(
            r#"{"user": {"document": "Maria!?ção"}, "code": {}}"#,
            "data.code: expected an identifier (a string or a number), got an object",
        );
        check(
            r#"{"code": {}, "id": 7}"#,
            "data.code: expected an identifier (a string or a number), got an object",
        );
        check(r#""Maria""#, "data: expected an object, got a text of 5 characters");
    }
    #[test]
    fn a_customer_that_cannot_be_read_is_absent() {
        let check = |data: &str, expect: &str| {
            let body = format!(r#"{{"event_id": "ORDER_CREATED", "data": {{"code": 12.0, {data}}}}}"#);
            let parsed = parse::<Notification>(body.as_bytes(), "").unwrap();
            assert_eq!(parsed.payload.data.key().unwrap().as_str(), "12");
            assert_eq!(parsed.ignored.to_string(), expect);
        };
        check(r#""user": []"#, "");
        check(r#""user": "Maria""#, "data.user: expected an object, got a text of 5 characters");
        check(r#""user": ["Maria"]"#, "data.user: expected an object, got an array");
        check(r#""user": {"name": {"first": "Maria"}}"#, "data.user.name: expected text, got an object");
        check(
            r#""date": {"date": "-0001-11-30 00:00:00.000000", "timezone_type": 3, "timezone": "UTC"}"#,
            "",
        );
    }
}
