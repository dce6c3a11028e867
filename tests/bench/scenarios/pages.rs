//! The console's pages with two million events on record, and lists that grow at a thousand events a second.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::browser::{self, Browser};
use tests::usage::cpu;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Bench;
use super::growth::{Side, TOKEN, count, filters, seed, timed, times};
use crate::load::{Pace, STEADY, post};
use crate::mix;
use crate::report::{Section, Table, grouped};

/// The pages, on RabbitMQ and PostgreSQL.
pub async fn scaled(bench: Bench<'_>) -> Result<Section> {
    let servers = bench.servers()?;
    measure(bench, Side::scaled(&servers, "pages")?, "Pages, PostgreSQL").await
}

/// The pages, in one process.
pub async fn embedded(bench: Bench<'_>) -> Result<Section> {
    measure(bench, Side::embedded()?, "Pages, SQLite").await
}

async fn measure(bench: Bench<'_>, mut side: Side, title: &'static str) -> Result<Section> {
    side.start_grown(bench).await?;
    let rows = count(&side.store, "events").await?;
    let pages = pages(bench, &side).await?;
    let painted = paint(bench, &side).await?;
    let followed = follow(bench, &side).await?;
    let text = format!(
        "The pages of the console with {} events on record, as a browser gets them that is logged in: the time until the last byte. \
         Then when Chromium, on the same machine, has painted the first content of a page, from the click on its link on. Then lists that are followed while events come: each opens a stream that tells how many are new.",
        grouped(rows as f64, 0),
    );
    Ok(Section { title, text, tables: vec![pages, painted, followed] })
}

/// Pages besides the lists of the record.
const PAGES: [&str; 12] = [
    "?period=hour",
    "?period=day",
    "?period=week",
    "dead/groups",
    "subscriptions",
    "attempts",
    "jobs",
    "queues",
    "routes",
    "audit",
    "receivables",
    "documents",
];

/// The time of every page of the console, as a browser gets it that is logged in.
async fn pages(bench: Bench<'_>, side: &Side) -> Result<Table> {
    let (filters, hidden) = filters(side).await?;
    let (port, times) = (side.console()?, times(bench));
    let session = session(port).await?;
    let [id, subject, ..] = &hidden;
    let mut pages: Vec<_> = filters.iter().chain(&PAGES.map(str::to_owned)).cloned().collect();
    pages.extend([format!("events/{id}"), format!("search?q={id}"), format!("search?q={subject}")]);
    pages.push("events.csv".to_owned());
    let mut table = Table::new(&["page of the console", "p50 ms", "p99 ms", "bytes"]);
    for page in pages {
        let mut latencies = Vec::new();
        let (begun, mut size) = (Instant::now(), 0);
        while latencies.len() < times && begun.elapsed() < Duration::from_secs(20) {
            let asked = Instant::now();
            let answer = look(port, &session, &format!("/{page}")).await?;
            latencies.push(answer.begun - asked);
            if let Some(whole) = answer.whole {
                *latencies.last_mut().context("a time")? = whole - asked;
            }
            size = answer.bytes;
        }
        let [shown, p50, p99] = timed(latencies, page.trim_end_matches('?'), &hidden);
        table.row([shown, p50, p99, grouped(size as f64, 0)]);
    }
    Ok(table)
}

/// When an answer came, and how large it is. One that is streamed is not waited for.
struct Look {
    begun: Instant,
    whole: Option<Instant>,
    bytes: usize,
}

async fn look(port: u16, session: &str, path: &str) -> Result<Look> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncookie: malote_session={session}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = vec![0; 16 * 1024];
    let read = stream.read(&mut answer).await?;
    answer.truncate(read);
    let begun = Instant::now();
    let head = String::from_utf8_lossy(&answer).into_owned();
    ensure!(head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.1 303"), "{path}: {head}");
    ensure!(!head.contains("location: /login"), "{path} leads to the log-in");
    if path.ends_with(".csv") {
        return Ok(Look { begun, whole: None, bytes: read });
    }
    stream.read_to_end(&mut answer).await?;
    Ok(Look { begun, whole: Some(Instant::now()), bytes: answer.len() })
}

/// Logs in with the token, and gives what the cookie has.
async fn session(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let form = format!("token={TOKEN}");
    let request = format!(
        "POST /login HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{form}",
        form.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let cookie = answer.split("malote_session=").nth(1).with_context(|| answer.clone())?;
    Ok(cookie.split(';').next().unwrap_or_default().to_owned())
}

/// Pages that are painted: the overview, and lists.
const PAINTED: [&str; 5] = ["?period=day", "events", "events?source=go", "dead", "receivables"];

/// When a page has its first content for a person.
async fn paint(bench: Bench<'_>, side: &Side) -> Result<Table> {
    let (origin, times) = (format!("http://127.0.0.1:{}", side.console()?), if bench.quick { 2 } else { 30 });
    let browser = Browser::start("").await?;
    browser.look(browser::Look { scheme: "light", width: 1440 }).await?;
    browser.open(&format!("{origin}/login")).await?;
    let fill = format!("document.querySelector('#token').value = '{TOKEN}'; document.forms[0].submit();");
    browser.run(&fill).await?;
    let mut table = Table::new(&["page in Chromium", "first paint, p50 ms", "p99 ms"]);
    for page in PAINTED {
        let mut latencies = Vec::new();
        while latencies.len() < times {
            browser.open(&format!("{origin}/{page}")).await?;
            let painted = browser.run(FIRST_PAINT).await?.as_f64().context("a time")?;
            latencies.push(Duration::from_secs_f64(painted / 1_000.0));
        }
        let [shown, p50, p99] = timed(latencies, page, &[]);
        table.row([shown, p50, p99]);
    }
    Ok(table)
}

/// When the first content of the page was painted, in milliseconds since the browser left the page before; waits for it.
const FIRST_PAINT: &str = "return new Promise((done) => new PerformanceObserver((list) => {
    const paint = list.getEntriesByName('first-contentful-paint')[0];
    if (paint) { done(paint.startTime); }
}).observe({type: 'paint', buffered: true}))";

/// How many lists are open at once.
const OPEN: [usize; 3] = [0, 1, 20];

/// What following costs the process that answers.
async fn follow(bench: Bench<'_>, side: &Side) -> Result<Table> {
    let port = side.console()?;
    let session = session(port).await?;
    let [ingress, console] = if side.is_embedded() { ["up"; 2] } else { ["ingress", "console"] };
    let pid = side.product.pid(console);
    let mut table =
        Table::new(&["lists followed", "processor, % of a core", "bytes/s of each", "messages/s of each"]);
    let (mut next, seconds) = (seed(bench), if bench.quick { 1 } else { 15 });
    for open in OPEN {
        let streams: Vec<_> = (0..open)
            .map(|_| tokio::spawn(followed(port, session.clone(), Duration::from_secs(seconds))))
            .collect();
        let events = mix::ROUND * (seconds as usize * 1_000 / mix::ROUND);
        let requests = mix::requests(&side.product.poster(), next..next + events)?;
        next += events;
        let (before, begun) = (cpu(pid)?, Instant::now());
        post(side.product.port(ingress), requests, STEADY, Pace::PerSecond(1_000.0)).await?;
        let busy = (cpu(pid)? - before).as_secs_f64() / begun.elapsed().as_secs_f64();
        let mut sums = [0, 0];
        for stream in streams {
            let counted = stream.await??;
            sums.iter_mut().zip(counted).for_each(|(sum, one)| *sum += one);
        }
        let each = |sum: usize| grouped(sum as f64 / open.max(1) as f64 / seconds as f64, 1);
        table.row([open.to_string(), grouped(busy * 100.0, 1), each(sums[0]), each(sums[1])]);
    }
    Ok(table)
}

/// The bytes and the messages of a list's stream within a time.
async fn followed(port: u16, session: String, time: Duration) -> Result<[usize; 2]> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request =
        format!("GET /events/live HTTP/1.1\r\nhost: 127.0.0.1\r\ncookie: malote_session={session}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    let read = async {
        loop {
            let read = stream.read(&mut buffer).await?;
            ensure!(read > 0, "the stream ended: {}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&buffer[..read]);
        }
    };
    if let Ok(ended) = tokio::time::timeout(time, read).await {
        return ended;
    }
    let text = String::from_utf8_lossy(&text);
    let (head, told) = text.split_once("\r\n\r\n").context("an answer")?;
    ensure!(head.contains("text/event-stream"), "{head}");
    Ok([told.len(), told.matches("data:").count()])
}
