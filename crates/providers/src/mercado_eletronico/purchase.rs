//! The data of the topics about what is bought: `order.*`, `preorder.*`, `prerequest.*`, `request.*`, `rfq.*`, `contract.*`,
//! `service-sheet.*` and those of their parts, and the documents that the API has of these.

use crate::contract::{Object, Payload};
use crate::{Centavos, ContractError, Id};

/// The fields of `data` with the id of what is bought.
const IDS: [&str; 8] = [
    "orderId",
    "preOrderId",
    "preRequestId",
    "requestId",
    "rfqId",
    "contractId",
    "serviceSheetId",
    "serviceSheetHeaderId",
];

/// The ids and codes of a notice. Each field is only sent with some of the topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase {
    /// Those of [`IDS`].
    ids: [Option<Id>; IDS.len()],
    /// On `*.status`: the code of the status.
    pub status: Option<Id>,
    /// On `*.status`: the code of the status before.
    pub previous_status: Option<Id>,
    /// The supplier of an order, or who was asked for a quotation.
    pub supplier_id: Option<Id>,
}

impl Purchase {
    /// Takes the id that is in this field, such as `data.orderId`.
    pub fn take_id(&mut self, field: &str) -> Option<Id> {
        let index = IDS.iter().position(|id| field.strip_prefix("data.") == Some(id))?;
        self.ids[index].take()
    }
}

impl Payload for Purchase {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        Ok(Self {
            ids: IDS.map(|field| object.optional(field)),
            status: object.optional("status"),
            previous_status: object.optional("previousStatus"),
            supplier_id: object.optional("supplierId"),
        })
    }
}

/// What is read of `/v1/orders/{id}` and the like. Every field may be absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurchaseDocument {
    /// The total: of a contract `totalValue`, of an order `grossValue` or `netValue`, of a service sheet `value`.
    pub total: Option<Centavos>,
    /// The currency, such as `BRL`.
    pub currency: Option<String>,
    /// The supplier's id.
    pub supplier_id: Option<Id>,
}

impl Payload for PurchaseDocument {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        let totals = ["totalValue", "grossValue", "netValue", "value"];
        Ok(Self {
            total: totals.into_iter().find_map(|name| object.optional(name)),
            currency: object.optional("currency"),
            supplier_id: object.optional("supplierId"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mercado_eletronico::{Notice, TOPICS, family};
    use crate::parse;

    #[test]
    fn every_documented_body_names_what_is_bought() {
        let is_purchase = |topic: &str| IDS.iter().any(|id| family(topic).unwrap().1 == format!("data.{id}"));
        let bodies: Vec<_> = TOPICS.iter().filter(|topic| is_purchase(topic.name)).collect();
        assert!(bodies.len() >= 28, "{}", bodies.len());
        for (topic, body) in bodies.iter().filter_map(|topic| Some((topic, topic.example?))) {
            let mut purchase = parse::<Notice<Purchase>>(body.as_bytes(), "").unwrap().payload.data;
            assert_eq!(purchase.ids.iter().flatten().count(), 1, "{}", topic.name);
            assert!(purchase.take_id(topic.subject).is_some(), "{}", topic.name);
            let has_status = topic.name.ends_with(".status");
            assert_eq!(purchase.status.is_some(), has_status, "{}", topic.name);
            assert_eq!(purchase.previous_status.is_some(), has_status, "{}", topic.name);
        }
    }

    #[test]
    fn a_document_has_the_total_of_its_kind_exactly() {
        let check = |body: &str, total: Option<i64>| {
            let document = parse::<PurchaseDocument>(body.as_bytes(), "").unwrap().payload;
            assert_eq!(document.total.map(|total| total.0), total, "{body}");
            document
        };
        let order = check(
            r#"{"grossValue": 1234.50, "netValue": 1200, "currency": "BRL", "supplierId": 900}"#,
            Some(123_450),
        );
        assert_eq!((order.currency.as_deref(), order.supplier_id.unwrap().as_str()), (Some("BRL"), "900"));
        check(r#"{"totalValue": 10000, "usedValue": 12.5}"#, Some(1_000_000));
        check(r#"{"value": "395.00"}"#, Some(39_500));
        check(r#"{"clientOrderId": "4500012345", "freightValue": 12}"#, None);
        check(r#"{"grossValue": null, "netValue": 7}"#, Some(700));
    }
}
