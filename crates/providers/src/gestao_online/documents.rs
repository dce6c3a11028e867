//! The documents of Gestão Online's API, and what is read of them.
//!
//! Totals are numbers in details and texts in lists. Every field may be absent.

use crate::contract::{Object, Payload};
use crate::documents::{Api, ApiAuthentication, Document};
use crate::{Centavos, ContractError, Date};

/// The API. Orders are known by their code, and fetched by their id.
pub(super) static API: Api = Api {
    authentication: ApiAuthentication::Headers,
    documents: &[Document {
        topics: &[
            "ORDER_CREATED",
            "ORDER_CANCEL",
            "TAX_INVOICE_CHANGE_STATUS",
            "FINANCIAL_PAYMENT_DISCHARGE",
            "FINANCIAL_PAYMENT_STATUS",
            "ORDER_DELIVERY_CHANGE_STATUS",
        ],
        entity: "order",
        key: &["code", "id"],
        id: "id",
        path: "/order-external/{id}",
        names: &[],
    }],
    files: None,
};

/// `/order-external/{id}`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderDocument {
    /// What the customer pays.
    pub total: Option<Centavos>,
    /// Its instalments.
    pub items: Vec<FinancialItem>,
}

impl Payload for OrderDocument {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        Ok(Self { total: object.optional("orderTotal"), items: object.optional_list("financialItems")? })
    }
}

/// An instalment of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinancialItem {
    /// What is due.
    pub amount: Option<Centavos>,
    /// What was paid of it.
    pub paid: Option<Centavos>,
    /// When it falls due.
    pub due_date: Option<Date>,
    /// The provider's word for its status, such as `LIQUIDADO`.
    pub status: Option<String>,
}

impl Payload for FinancialItem {
    fn read(object: &Object<'_>) -> Result<Self, ContractError> {
        Ok(Self {
            amount: object.optional("amount"),
            paid: object.optional("amountPaid"),
            due_date: object.optional("dueDate"),
            status: object.optional("status"),
        })
    }
}

impl FinancialItem {
    /// Whether it is paid.
    pub fn is_paid(&self) -> bool {
        let is_settled =
            self.status.as_deref().is_some_and(|status| status.eq_ignore_ascii_case("LIQUIDADO"));
        is_settled
            || self.amount.is_some_and(|amount| amount.0 > 0 && self.paid.is_some_and(|paid| paid >= amount))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    #[test]
    fn an_order_has_its_total_and_its_instalments() {
        let body = br#"{"code": "0000593098", "status": 1, "orderTotal": "395.00", "statusPayment": "PENDENTE", "financialItems": [
            {"amount": 197.5, "amountPaid": "197.50", "dueDate": "2026-12-01", "type": "CARTAO_CREDITO", "status": "LIQUIDADO"},
            {"amount": "197.50", "amountPaid": 0, "dueDate": {"date": "2027-01-01 00:00:00.000000", "timezone_type": 3,
             "timezone": "UTC"}, "status": null}]}"#;
        let order = parse::<OrderDocument>(body, "application/json").unwrap().payload;
        assert_eq!(order.total, Some(Centavos(39_500)));
        let read = |item: &FinancialItem| {
            (item.amount.unwrap().0, item.due_date.unwrap().to_string(), item.is_paid())
        };
        let items: Vec<_> = order.items.iter().map(read).collect();
        assert_eq!(
            items,
            [(19_750, "2026-12-01".to_owned(), true), (19_750, "2027-01-01".to_owned(), false)]
        );
        assert!(parse::<OrderDocument>(b"{}", "").unwrap().payload.items.is_empty());
    }
}
