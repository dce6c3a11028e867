//! The APIs of the providers in the demo: documents with made-up amounts for whatever the examples name, and a prescription.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use server::{Config, Health, Operations, Server};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use crate::roles::telemetry::VERSION;

/// The server of the APIs; it ends when dropped.
pub struct Apis(JoinHandle<()>);

/// Answers every request.
#[derive(Clone)]
struct Answers;

impl Apis {
    /// Serves them at this address.
    pub async fn start(address: SocketAddr) -> Result<Self> {
        let port = Server::bind(&Config::new(address)).await.context("the APIs of the providers")?;
        let operations = Operations::new(Health::default(), String::new, VERSION);
        Ok(Self(tokio::spawn(port.serve(Answers, operations, CancellationToken::new()))))
    }
}

impl Drop for Apis {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<B> Service<Request<B>> for Answers {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        let (content_type, body) = match document(path) {
            Some(document) => ("application/json", document.to_string()),
            None if path == "/document.pdf" => {
                ("application/pdf", "%PDF-1.7\n% made by malote demo\n".to_owned())
            }
            None => {
                let mut gone = Response::new(Full::default());
                *gone.status_mut() = StatusCode::NOT_FOUND;
                return ready(Ok(gone));
            }
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        ready(Ok(response))
    }
}

/// The document at a path of an API.
fn document(path: &str) -> Option<Value> {
    let (kind, id) = path.rsplit_once('/')?;
    Some(match kind {
        "/v1/auth" => json!({ "accessToken": "made-up", "expiresIn": 3600 }),
        "/v1/invoices" => json!({
            "id": id, "invoiceNumber": 4711, "invoiceSerial": "1", "issueDate": "2026-11-20", "totalDue": 1234.50,
            "netPrice": 1200, "freightValue": 34.50, "currency": "BRL", "supplierId": 900,
        }),
        "/v1/suppliers" => json!({
            "id": id, "companyName": "Fornecedora Exemplo", "documents": [{ "type": "CNPJ", "number": "11.222.333/0001-81" }],
        }),
        "/order-external" => json!({
            "id": id, "orderTotal": "395.00", "statusPayment": "PENDENTE", "financialItems": [
                { "amount": 197.50, "amountPaid": 197.50, "dueDate": "2026-12-01", "status": "LIQUIDADO" },
                { "amount": 197.50, "amountPaid": 0, "dueDate": "2027-01-01", "status": null },
            ],
        }),
        _ if path.starts_with("/v1/") => json!({
            "id": id, "status": "1", "totalValue": 1234.50, "grossValue": 1234.50, "netValue": 1200, "currency": "BRL",
            "supplierId": 900,
        }),
        _ => return None,
    })
}
