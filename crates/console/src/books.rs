//! What the books say: the domains' lists.

use axum::Json;
use axum::extract::State;
use invoices::Invoice;
use prescriptions::Prescription;
use receivables::{Agreement, AgreementFilter, Receivable};
use store::Page;

use crate::ConsoleState;
use crate::names;
use crate::page::{List, PageParameters, Query};
use crate::refusal::Refusal;

/// Notas fiscais.
#[utoipa::path(get, path = "/api/v1/invoices", tag = "books", params(invoices::Filter, PageParameters),
    responses((status = 200, description = "A page of invoices", body = List<Invoice>)))]
pub(crate) async fn invoices(
    State(state): State<ConsoleState>,
    Query { filter, page, given }: Query<invoices::Filter>,
) -> Result<Json<List<Invoice>>, Refusal> {
    let mut connection = state.store.read().await?;
    let page = invoices::list(&mut connection, &filter, &page).await?;
    if page.items.is_empty() {
        let of_source = invoices::Filter { source: filter.source, ..Default::default() };
        if !invoices::list(&mut connection, &of_source, &Page::first(1)).await?.items.is_empty() {
            return Ok(Json(page.into()));
        }
    }
    names::answer(&state, &mut connection, &given, page).await
}

/// Instalments and orders: contas a receber.
#[utoipa::path(get, path = "/api/v1/receivables", tag = "books", params(receivables::Filter, PageParameters),
    responses((status = 200, description = "A page of receivables", body = List<Receivable>)))]
pub(crate) async fn receivables(
    State(state): State<ConsoleState>,
    Query { filter, page, given }: Query<receivables::Filter>,
) -> Result<Json<List<Receivable>>, Refusal> {
    let mut connection = state.store.read().await?;
    let page = receivables::list(&mut connection, &filter, &page).await?;
    if page.items.is_empty() {
        let of_source = receivables::Filter { source: filter.source, ..Default::default() };
        if !receivables::list(&mut connection, &of_source, &Page::first(1)).await?.items.is_empty() {
            return Ok(Json(page.into()));
        }
    }
    names::answer(&state, &mut connection, &given, page).await
}

/// Agreements that debts were put into.
#[utoipa::path(get, path = "/api/v1/agreements", tag = "books", params(AgreementFilter, PageParameters),
    responses((status = 200, description = "A page of agreements", body = List<Agreement>)))]
pub(crate) async fn agreements(
    State(state): State<ConsoleState>,
    Query { filter, page, given }: Query<AgreementFilter>,
) -> Result<Json<List<Agreement>>, Refusal> {
    let mut connection = state.store.read().await?;
    let page = receivables::list_agreements(&mut connection, &filter, &page).await?;
    if page.items.is_empty() {
        let of_source = AgreementFilter { source: filter.source, ..Default::default() };
        if !receivables::list_agreements(&mut connection, &of_source, &Page::first(1)).await?.items.is_empty()
        {
            return Ok(Json(page.into()));
        }
    }
    names::answer(&state, &mut connection, &given, page).await
}

/// Prescription renewals.
#[utoipa::path(get, path = "/api/v1/prescriptions", tag = "books", params(prescriptions::Filter, PageParameters),
    responses((status = 200, description = "A page of prescriptions", body = List<Prescription>)))]
pub(crate) async fn prescriptions(
    State(state): State<ConsoleState>,
    Query { filter, page, given }: Query<prescriptions::Filter>,
) -> Result<Json<List<Prescription>>, Refusal> {
    let mut connection = state.store.read().await?;
    let page = prescriptions::list(&mut connection, &filter, &page).await?;
    if page.items.is_empty() {
        let of_source = prescriptions::Filter { source: filter.source, ..Default::default() };
        if !prescriptions::list(&mut connection, &of_source, &Page::first(1)).await?.items.is_empty() {
            return Ok(Json(page.into()));
        }
    }
    names::answer(&state, &mut connection, &given, page).await
}
