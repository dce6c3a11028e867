//! The documents of Mercado Eletrônico's API, and what is read of them.
//!
//! Ids are numbers, money is a JSON number. Every field may be absent.

use crate::body;
use crate::contract::{Object, Payload};
use crate::documents::{Api, ApiAuthentication, Document};
use crate::unexpected::Unexpected;
use crate::value::Value;
use crate::{Centavos, ContractError, Date, Id, TaxId};

macro_rules! document {
    ($entity:literal, $id:literal, $path:literal, $topics:expr) => {
        document!($entity, $id, $path, $topics, names & [])
    };
    ($entity:literal, $id:literal, $path:literal, $topics:expr, names $names:expr) => {
        Document { topics: $topics, entity: $entity, key: &[$id], id: $id, path: $path, names: $names }
    };
}

/// The API. Notices of attachments and of parts of a service sheet name no document.
pub(super) static API: Api = Api {
    authentication: ApiAuthentication::JsonToken("/v1/auth/tokens"),
    documents: &[
        document!(
            "invoice",
            "invoiceId",
            "/v1/invoices/{id}",
            &["invoice.status", "invoice.created", "invoice.updated", "invoice.creditmemo.requested"],
            names & [("supplierId", "supplier")]
        ),
        document!(
            "order",
            "orderId",
            "/v1/orders/{id}",
            &["order.created", "order.canceled", "order.delivered", "order.updated"]
        ),
        document!("order", "orderId", "/v1/orders/supplier-orders/{id}", &["order.received"]),
        document!(
            "preorder",
            "preOrderId",
            "/v1/pre-orders/{id}",
            &["preorder.created", "preorder.approved", "preorder.status"]
        ),
        document!(
            "request",
            "requestId",
            "/v1/requests/{id}",
            &["request.approved", "request.status", "request-item.status.updated"]
        ),
        document!("prerequest", "preRequestId", "/v1/requests/pre-requests/{id}", &["prerequest.submitted"]),
        document!(
            "rfq",
            "rfqId",
            "/v1/quotations/{id}",
            &[
                "rfq.created",
                "rfq.closed",
                "rfq.expired",
                "rfq.canceled",
                "rfq.updated",
                "rfq.received",
                "rfq.answer.created",
                "rfq.answer.updated"
            ]
        ),
        document!(
            "contract",
            "contractId",
            "/v1/contracts/{id}",
            &["contract.created", "contract.approved", "contract.updated", "contract.status"]
        ),
        document!(
            "service-sheet",
            "serviceSheetId",
            "/v1/service-sheets/{id}",
            &["service-sheet.created", "service-sheet.approved", "service-sheet.status"]
        ),
        document!(
            "supplier",
            "supplierId",
            "/v1/suppliers/{id}",
            &["supplier.created", "supplier.updated", "supplier.approved", "supplier.approval.pending"]
        ),
    ],
    files: None,
};

/// `/v1/invoices/{id}`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvoiceDocument {
    /// The number of the nota fiscal.
    pub number: Option<Id>,
    /// Its series.
    pub series: Option<Id>,
    /// The day of issue.
    pub issue_date: Option<Date>,
    /// What is due.
    pub total: Option<Centavos>,
    /// The price without freight and taxes.
    pub net: Option<Centavos>,
    /// The currency, such as `BRL`.
    pub currency: Option<String>,
    /// The supplier's id.
    pub supplier_id: Option<Id>,
}

impl Payload for InvoiceDocument {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        Ok(Self {
            number: object.optional("invoiceNumber"),
            series: object.optional("invoiceSerial"),
            issue_date: object.optional("issueDate"),
            total: object.optional("totalDue"),
            net: object.optional("netPrice"),
            currency: object.optional("currency"),
            supplier_id: object.optional("supplierId"),
        })
    }
}

/// `/v1/suppliers/{id}`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupplierDocument {
    /// Its CNPJ, or the CPF of a person.
    pub document: Option<TaxId>,
}

impl Payload for SupplierDocument {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        Ok(Self { document: object.optional::<TaxIds>("documents").and_then(|TaxIds(first)| first) })
    }
}

/// The first CNPJ of a list of documents, else the first CPF. The names of an item's fields are not documented: each value
/// is looked at, and so is an item that is a text.
struct TaxIds(Option<TaxId>);

impl Value for TaxIds {
    fn read(json: &str) -> Result<Self, Unexpected> {
        let items = body::items(json).unwrap_or_else(|| vec![json]);
        let values = items.into_iter().flat_map(|item| match body::kind(item) {
            "an object" => body::entries(item).into_iter().map(|(_, value)| value).collect(),
            _ => vec![item],
        });
        let ids: Vec<TaxId> = values.filter_map(|value| TaxId::read(value).ok()).collect();
        let of_length = |length: usize| ids.iter().find(|id| id.bare().len() == length).cloned();
        Ok(Self(of_length(14).or_else(|| of_length(11))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    #[test]
    fn an_invoice_keeps_numbers_as_text_and_money_exactly() {
        let body = br#"{"invoiceNumber": 4711, "invoiceSerial": "001", "issueDate": "2026-11-20T00:00:00", "totalDue": 1234.50,
            "netPrice": 1200, "freightValue": 34.5, "currency": "BRL", "supplierId": 900, "clientSupplierId": null}"#;
        let invoice = parse::<InvoiceDocument>(body, "application/json").unwrap().payload;
        assert_eq!((invoice.number.unwrap().as_str(), invoice.series.unwrap().as_str()), ("4711", "001"));
        assert_eq!((invoice.total.unwrap().0, invoice.net.unwrap().0), (123_450, 120_000));
        assert_eq!(invoice.issue_date.unwrap().to_string(), "2026-11-20");
        assert_eq!(
            (invoice.currency.as_deref(), invoice.supplier_id.unwrap().as_str()),
            (Some("BRL"), "900")
        );
        let none = parse::<InvoiceDocument>(b"{}", "").unwrap().payload;
        assert_eq!((none.number, none.total), (None, None));
    }

    #[test]
    fn a_supplier_is_known_by_its_cnpj_wherever_the_list_has_it() {
        let check = |documents: &str, expect: Option<&str>| {
            let body = format!(r#"{{"companyName": "Metalúrgica", "documents": {documents}}}"#);
            let supplier = parse::<SupplierDocument>(body.as_bytes(), "").unwrap().payload;
            assert_eq!(supplier.document.as_ref().map(TaxId::bare), expect, "{documents}");
        };
        check(r#"[{"type": "CNPJ", "number": "11.222.333/0001-81"}]"#, Some("11222333000181"));
        check(
            r#"[{"type": "IE", "value": "123"}, {"type": "CNPJ", "value": "11222333000181"}]"#,
            Some("11222333000181"),
        );
        check(r#"["529.982.247-25", "12.ABC.345/01DE-35"]"#, Some("12ABC34501DE35"));
        check(r#"["529.982.247-25"]"#, Some("52998224725"));
        check("[]", None);
        check("null", None);
    }
}
