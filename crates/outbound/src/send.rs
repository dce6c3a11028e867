//! A request with its credentials, within its time-out.

use std::time::Duration;

use http::StatusCode;
use http::header::AUTHORIZATION;
use tokio::time::{Instant, timeout};

use crate::client::{Answer, Client, Request};
use crate::credentials::Credentials;
use crate::error::{SendError, Step};

/// An answer 401 to a request whose access token was kept: the request was sent once more.
#[derive(Debug)]
pub struct Denied {
    /// The answer.
    pub answer: Answer,
    /// How long it took, with everything before it.
    pub took: Duration,
}

impl Client {
    /// Sends a request and reads its answer, whatever its status.
    ///
    /// The time-out is that of everything, including an access token. Dropping the future ends the exchange; whether the
    /// target has got the request is then unknown, as after every error but those of resolving and connecting. If the
    /// target answers 401 to an access token that was kept, the request is sent once more with a new one.
    pub async fn send(&self, request: Request, credentials: &Credentials) -> Result<Answer, SendError> {
        self.send_noting(request, credentials, &mut None).await
    }

    /// The same, and keeps the first answer of a request that was sent twice, also if the second one has none.
    pub async fn send_noting(
        &self,
        request: Request,
        credentials: &Credentials,
        denied: &mut Option<Denied>,
    ) -> Result<Answer, SendError> {
        let (url, after) = (request.url.clone(), request.timeout);
        let mut step = Step::Pool;
        // Both are read after the time-out has dropped what borrows them.
        let sent = timeout(after, self.send_with(request, credentials, &mut step, denied)).await;
        sent.unwrap_or_else(|_| Err(SendError::TimedOut { host: url.host().to_owned(), step, after }))
    }

    async fn send_with(
        &self,
        mut request: Request,
        credentials: &Credentials,
        step: &mut Step,
        denied: &mut Option<Denied>,
    ) -> Result<Answer, SendError> {
        let tokens = match credentials {
            Credentials::None => return self.exchange(request, step).await,
            Credentials::Headers(headers) => {
                let headers = headers.iter().map(|(name, value)| (name.clone(), value.clone()));
                request.headers.extend(headers);
                return self.exchange(request, step).await;
            }
            Credentials::OAuth2(tokens) => tokens,
        };
        let began = Instant::now();
        *step = Step::Token;
        let token = tokens.token().await.map_err(SendError::Token)?;
        request.headers.insert(AUTHORIZATION, token.header.clone());
        let answer = self.exchange(request.clone(), step).await?;
        // A new token is not better than one that is new already.
        if answer.status != StatusCode::UNAUTHORIZED || token.is_newer_than(began) {
            return Ok(answer);
        }
        *denied = Some(Denied { answer, took: began.elapsed() });
        *step = Step::Token;
        tokens.reject(&token);
        let token = tokens.token().await.map_err(SendError::Token)?;
        request.headers.insert(AUTHORIZATION, token.header);
        self.exchange(request, step).await
    }
}
