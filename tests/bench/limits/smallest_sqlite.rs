//! The smallest handler that stores what it takes in SQLite: axum reads the body, one struct reads the topic, one thread
//! inserts a message and a row in each of two queues, and the answer is given once the transaction is on the disk. What
//! arrives while one transaction is written shares the next (group commit). A process of its own, as malote is one.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use rusqlite::{Connection, params};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::smallest::topic;

/// The command line that makes this program the handler, before the file and the port.
pub const COMMAND: &str = "serve-smallest-sqlite-handler";

/// The most events of a transaction, as in malote.
const BATCH: usize = 1_024;

const SCHEMA: &str = "
    CREATE TABLE message (id INTEGER PRIMARY KEY, topic TEXT NOT NULL, body BLOB NOT NULL);
    CREATE TABLE ledger (message INTEGER PRIMARY KEY);
    CREATE TABLE consumer (message INTEGER PRIMARY KEY);";

/// One event, with the channel on which its request waits.
struct Post {
    topic: String,
    body: Bytes,
    stored: oneshot::Sender<()>,
}

/// The handler, as the other process.
pub async fn serve(arguments: &[String]) -> Result<Infallible> {
    let [file, port] = arguments else { anyhow::bail!("expected a file and a port") };
    let connection = Connection::open(file)?;
    // Nobody else reads the file; the log is moved into it as often as the file of malote's store.
    for (pragma, value) in [
        ("locking_mode", "EXCLUSIVE"),
        ("journal_mode", "WAL"),
        ("synchronous", "FULL"),
        ("wal_autocheckpoint", "4000"),
        ("cache_size", "-8192"),
    ] {
        connection.pragma_update(None, pragma, value)?;
    }
    connection.execute_batch(SCHEMA)?;
    let (posts, waiting) = mpsc::channel();
    // When the thread ends with an error, the waiting requests are answered 503.
    std::thread::spawn(move || write(&connection, &waiting));
    let router = Router::new().route("/webhooks/{source}", post(receive)).with_state(posts);
    axum::serve(TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse()?)).await?, router).await?;
    anyhow::bail!("the server ended")
}

async fn receive(State(posts): State<Sender<Post>>, body: Bytes) -> impl IntoResponse {
    match store(&posts, body).await {
        Ok(answer) => (StatusCode::OK, [(CONTENT_TYPE, "application/json")], answer),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, [(CONTENT_TYPE, "text/plain")], error.to_string()),
    }
}

async fn store(posts: &Sender<Post>, body: Bytes) -> Result<String> {
    let topic = topic(&body)?.into_owned();
    let answer = serde_json::json!({ "topic": topic }).to_string();
    let (stored, confirm) = oneshot::channel();
    posts.send(Post { topic, body, stored }).ok().context("the writer has ended")?;
    confirm.await.context("not stored")?;
    Ok(answer)
}

/// Writes what waits, a transaction at a time.
fn write(connection: &Connection, posts: &Receiver<Post>) -> rusqlite::Result<()> {
    let mut stored = Vec::new();
    while let Ok(first) = posts.recv() {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for post in std::iter::once(first).chain(posts.try_iter().take(BATCH - 1)) {
            let mut message =
                connection.prepare_cached("INSERT INTO message (topic, body) VALUES (?1, ?2)")?;
            let id = message.insert(params![post.topic, &post.body[..]])?;
            connection.prepare_cached("INSERT INTO ledger VALUES (?1)")?.execute([id])?;
            connection.prepare_cached("INSERT INTO consumer VALUES (?1)")?.execute([id])?;
            stored.push(post.stored);
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
        for stored in stored.drain(..) {
            // Fails for one that has gone.
            let _ = stored.send(());
        }
    }
    Ok(())
}

/// The command that serves it on a port of this machine.
pub fn command(file: &Path, port: u16) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(COMMAND).arg(file).arg(port.to_string());
    Ok(command)
}
