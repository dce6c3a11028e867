//! Log, metrics and spans of a process.
//!
//! Promises one log line per event of interest in the configured form, on standard error through a
//! [queue](crate::log_queue); metrics as Prometheus text; spans to an OTLP receiver if one is configured. Writes no
//! bodies and no secrets: targets that would are off.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::Context as TraceContext;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracerProvider, Tracer};
use tokio_util::sync::CancellationToken;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::log_queue::{self, LogQueue};
use crate::config::{Config, LogFormat};
use crate::table::is_colour_unwanted;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Upper bounds of every histogram of seconds: 1 ms to a minute.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// How often histograms sum up their values: until then they keep every one.
const UPKEEP_PERIOD: Duration = Duration::from_secs(1);

/// lapin writes returned messages whole; the exporter of spans would export its own.
const SILENT: [(&str, LevelFilter); 6] = [
    ("lapin", LevelFilter::OFF),
    ("opentelemetry", LevelFilter::WARN),
    ("opentelemetry_sdk", LevelFilter::WARN),
    ("opentelemetry_otlp", LevelFilter::OFF),
    ("reqwest", LevelFilter::WARN),
    ("hyper", LevelFilter::WARN),
];

/// The parts whose spans are exported in detail.
const DETAILED: [(&str, LevelFilter); 2] =
    [("ingress", LevelFilter::DEBUG), ("consumer", LevelFilter::DEBUG)];

/// The telemetry of a process; dropped last, so that pending data is still sent.
pub struct Telemetry {
    metrics: PrometheusHandle,
    log: LogQueue,
    spans: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Installs log, metrics and spans for the process. Once.
    pub fn install(config: &Config) -> Result<Self> {
        let spans = match config.telemetry.otlp_endpoint.as_str() {
            "" => None,
            endpoint => Some(provider(endpoint)?),
        };
        let filter = config.log.targets().context("log.filter")?.with_targets(SILENT);
        let text = match config.log.format {
            LogFormat::Text => true,
            LogFormat::Json => false,
            LogFormat::Auto => std::io::stderr().is_terminal(),
        };
        let queue = LogQueue::install().context("cannot write the log")?;
        let log = if text {
            let ansi = std::io::stderr().is_terminal() && !is_colour_unwanted();
            let layer = fmt::layer().with_writer(queue.clone()).with_ansi(ansi).with_target(false).compact();
            layer.with_filter(filter).boxed()
        } else {
            fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false)
                .with_writer(queue.clone())
                .with_filter(filter)
                .boxed()
        };
        let exported = spans.as_ref().map(|provider: &SdkTracerProvider| {
            let filter = Targets::new().with_default(LevelFilter::INFO);
            let filter = filter.with_targets(DETAILED).with_targets(SILENT);
            Parented(tracing_opentelemetry::layer().with_tracer(provider.tracer("malote")))
                .with_filter(filter)
        });
        tracing_subscriber::registry()
            .with(log)
            .with(exported)
            .try_init()
            .context("the log is set up once")?;
        std::panic::set_hook(Box::new(panicked));

        let metrics = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .and_then(PrometheusBuilder::install_recorder)
            .context("cannot set up metrics")?;
        Ok(Self { metrics, log: queue, spans })
    }

    /// For tests, which share a process: nothing is written, sent or counted.
    #[cfg(test)]
    pub fn none() -> Self {
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        Self { metrics, log: LogQueue::default(), spans: None }
    }

    /// Renders the metrics of this moment as Prometheus text.
    pub fn render(&self) -> impl Fn() -> String + Send + Sync + 'static {
        let (metrics, log) = (self.metrics.clone(), self.log.clone());
        move || {
            let dropped = log.dropped();
            let lines =
                format!("# TYPE log_lines_dropped_total counter\nlog_lines_dropped_total {dropped}\n");
            metrics.render() + &process() + &lines
        }
    }

    /// Keeps histograms from growing until `stop`.
    pub async fn upkeep(&self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(UPKEEP_PERIOD)).await.is_some() {
            self.metrics.run_upkeep();
        }
    }

    /// Sends the spans that are still here. Blocks for a moment.
    pub fn flush(&self) {
        if let Some(spans) = &self.spans
            && let Err(error) = spans.shutdown()
        {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// Logs where a panic began instead of writing to standard error, where a reader that stalls would stop the thread. What it
/// says stays out of the log: it may quote a body.
fn panicked(panic: &std::panic::PanicHookInfo<'_>) {
    consumer::remember_panic(panic);
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!("panicked at {location}");
    // The process ends with its main thread.
    if std::thread::current().name() == Some("main") {
        log_queue::flush();
    }
}

fn provider(endpoint: &str) -> Result<SdkTracerProvider> {
    let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/').trim_end_matches("/v1/traces"));
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .build()
        .context("telemetry.otlp_endpoint")?;
    let resource = Resource::builder().with_service_name("malote").build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// What the system says of this process, in the names that Prometheus' own clients use.
fn process() -> String {
    let mut text = format!("# TYPE build_info gauge\nbuild_info{{version=\"{VERSION}\"}} 1\n");
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).ok();
    let resident = read("status").and_then(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:").map(str::to_owned))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    });
    if let Some(kilobytes) = resident {
        let bytes = kilobytes * 1024;
        let _ = writeln!(
            text,
            "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {bytes}"
        );
    }
    // Fields 14 and 15 of stat(5), counted after the name in parentheses, in hundredths of a second (USER_HZ).
    let ticks = read("stat").and_then(|stat| {
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
    });
    if let Some(ticks) = ticks {
        let seconds = format!("{}.{:02}", ticks / 100, ticks % 100);
        let _ =
            writeln!(text, "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total {seconds}");
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        let _ = writeln!(text, "# TYPE process_open_fds gauge\nprocess_open_fds {}", open.count());
    }
    text
}

/// Exports spans, each below the one that its field `traceparent` names, where it has one.
struct Parented<S>(OpenTelemetryLayer<S, Tracer>);

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Parented<S> {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: LayerContext<'_, S>) {
        let mut found = Traceparent(None);
        attributes.record(&mut found);
        // The exporter takes the parent from the context that is attached while the span is made.
        let _attached = found.0.map(|parent| TraceContext::new().with_remote_span_context(parent).attach());
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, span: &Id, values: &Record<'_>, context: LayerContext<'_, S>) {
        self.0.on_record(span, values, context);
    }

    fn on_follows_from(&self, span: &Id, follows: &Id, context: LayerContext<'_, S>) {
        self.0.on_follows_from(span, follows, context);
    }

    fn on_event(&self, event: &Event<'_>, context: LayerContext<'_, S>) {
        self.0.on_event(event, context);
    }

    fn on_enter(&self, id: &Id, context: LayerContext<'_, S>) {
        self.0.on_enter(id, context);
    }

    fn on_exit(&self, id: &Id, context: LayerContext<'_, S>) {
        self.0.on_exit(id, context);
    }

    fn on_close(&self, id: Id, context: LayerContext<'_, S>) {
        self.0.on_close(id, context);
    }
}

struct Traceparent(Option<SpanContext>);

impl Visit for Traceparent {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "traceparent" {
            self.0 = span_context(value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "traceparent" {
            self.0 = span_context(format!("{value:?}").trim_matches('"'));
        }
    }
}

/// Reads a `traceparent` (W3C Trace Context, section 3.2).
fn span_context(text: &str) -> Option<SpanContext> {
    let [_, trace, span, flags] = text.split('-').collect::<Vec<_>>()[..] else { return None };
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    Some(SpanContext::new(trace, span, flags, true, TraceState::NONE)).filter(SpanContext::is_valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_names_the_parent() {
        let context = span_context("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span_id().to_string(), "00f067aa0ba902b7");
        assert!(context.is_sampled() && context.is_remote());
        assert!(span_context("00-x-y-01").is_none());
        assert!(span_context("00-00000000000000000000000000000000-00f067aa0ba902b7-01").is_none());
    }

    #[test]
    fn the_process_tells_its_memory_and_version() {
        let text = process();
        assert!(text.contains("build_info{version=\""), "{text}");
        assert!(text.lines().any(|line| line.starts_with("process_resident_memory_bytes ")), "{text}");
        assert!(text.lines().any(|line| line.starts_with("process_cpu_seconds_total ")), "{text}");
    }
}
