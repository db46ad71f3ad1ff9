//! Logs and metrics. Both are global to a process: only a binary's start calls these, once.

use crate::{
    log_writer::{LogGuard, LostLines, stderr_writer},
    metrics::LOG_LINES_LOST,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use serde::Deserialize;
use std::{
    backtrace::{Backtrace, BacktraceStatus},
    convert::Infallible,
    io::{IsTerminal, stderr},
    panic,
    time::Duration,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// The metrics of this process.
#[derive(Clone, Debug)]
pub struct MetricsHandle {
    recorder: PrometheusHandle,
    lost: LostLines,
}

impl MetricsHandle {
    /// Every metric in Prometheus' text format.
    pub fn render(&self) -> String {
        metrics::counter!(LOG_LINES_LOST).absolute(self.lost.count());
        self.recorder.render()
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        let (_, guard) = crate::log_writer::log_writer(std::io::sink(), 1);
        Self { recorder: PrometheusBuilder::new().build_recorder().handle(), lost: guard.lost() }
    }
}

/// Section `log_output`: how log lines look.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogOutput {
    /// Filter directives, such as `info` or `info,fanout=debug`.
    pub level: String,
    /// Form of the lines.
    pub format: LogFormat,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogOutput {
    /// Adds every violation as `(key, what would be right)`.
    pub fn validate(&self, refuse: &mut dyn FnMut(&str, String)) {
        if let Err(error) = EnvFilter::try_new(&self.level) {
            refuse(
                "level",
                format!("must be filter directives such as \"info\" or \"info,fanout=debug\": {error}"),
            );
        }
        // Alone the filter takes a word for a part of the program, of which it lets everything through, and of others nothing.
        let is_level = |word: &str| word.is_empty() || word.parse::<LevelFilter>().is_ok();
        let words = self.level.split(',').map(str::trim).filter(|part| !part.contains(['=', '[']));
        for word in words.filter(|word| !is_level(word)) {
            let levels = "off, error, warn, info, debug or trace";
            refuse(
                "level",
                format!("must be {levels}, or a part with one such as {word}=debug; is {word:?}"),
            );
        }
    }
}

/// Buckets in seconds, from half a millisecond to half a minute, for every histogram of seconds.
const SECONDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The same for times that hardly ever differ by more than some 10 ms: between 50 and 100 ms one bucket says nothing.
const FINE_SECONDS: [f64; 16] =
    [0.01, 0.025, 0.05, 0.06, 0.075, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// How often values of histograms are put into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// Sends log lines and the messages of panics to standard error. The guard flushes them when it is dropped.
pub fn init_logs(output: &LogOutput) -> LogGuard {
    let filter = EnvFilter::try_new(&output.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let (writer, guard) = stderr_writer();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    // A line that fails is counted. To report it in the same place would fail too.
    let builder = builder.log_internal_errors(false);
    let terminal = stderr().is_terminal();
    let json = match output.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    // Fails only where a subscriber is set already; then that one stays.
    let _ = if json { builder.json().try_init() } else { builder.with_ansi(terminal).try_init() };
    panic::set_hook(Box::new(log_panic));
    guard
}

/// The standard library's own hook writes to standard error and waits for its reader.
fn log_panic(panic: &panic::PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("a value that is no text");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    // Taken only where RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => {
            tracing::error!(panic = message, location, thread, %backtrace, "a thread panicked");
        }
        _ => tracing::error!(panic = message, location, thread, "a thread panicked"),
    }
}

/// Installs the process's recorder of metrics. The histograms of `fine` have buckets between 50 and 100 ms.
pub fn init_metrics(lost: LostLines, fine: &[&str]) -> Result<MetricsHandle, BuildError> {
    Ok(MetricsHandle { recorder: builder(fine)?.install_recorder()?, lost })
}

fn builder(fine: &[&str]) -> Result<PrometheusBuilder, BuildError> {
    let mut builder = PrometheusBuilder::new();
    builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?;
    for name in fine {
        builder = builder.set_buckets_for_metric(Matcher::Full((*name).into()), &FINE_SECONDS)?;
    }
    Ok(builder)
}

/// Puts values of histograms into their buckets, until the shutdown. The recorder keeps each value until then or until
/// somebody reads the metrics: without this, memory would grow without end where nobody does.
pub async fn keep_up(metrics: MetricsHandle, shutdown: CancellationToken) -> Result<(), Infallible> {
    while shutdown.run_until_cancelled(sleep(UPKEEP)).await.is_some() {
        metrics.recorder.run_upkeep();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tasks;
    use metrics::{histogram, with_local_recorder};
    use std::sync::{Arc, Mutex};

    fn resident_mib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    #[test]
    fn a_level_that_is_none_is_refused_and_not_taken_for_a_part_of_the_program() {
        let refused = |level: &str| {
            let output = LogOutput { level: level.into(), format: LogFormat::Auto };
            let mut problems = Vec::new();
            output.validate(&mut |key, problem| problems.push(format!("{key} {problem}")));
            problems
        };
        for right in ["info", "WARN", "off", "info,h2=error,uproar_fanout=debug", "info,[span]=debug"] {
            assert_eq!(refused(right), Vec::<String>::new(), "{right}");
        }
        let wrong = refused("verbose,h2=error");
        assert!(wrong.len() == 1 && wrong[0].contains("verbose=debug; is \"verbose\""), "{wrong:?}");
        assert_eq!(refused("info,h2=loud").len(), 1);
    }

    #[test]
    fn the_message_of_a_panic_is_a_log_line() {
        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        let before = panic::take_hook();
        panic::set_hook(Box::new(log_panic));
        tracing::subscriber::with_default(subscriber, || {
            let number = 7;
            assert!(panic::catch_unwind(|| panic!("number {number}")).is_err());
            assert!(panic::catch_unwind(|| panic::panic_any(number)).is_err());
        });
        panic::set_hook(before);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("number 7") && text.contains("telemetry.rs"), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn a_histogram_of_window_delays_tells_60_ms_from_90() {
        let recorder = builder(&["delay_seconds"]).unwrap().build_recorder();
        with_local_recorder(&recorder, || {
            for name in ["delay_seconds", "other_seconds"] {
                histogram!(name).record(0.058);
                histogram!(name).record(0.09);
            }
        });
        let text = recorder.handle().render();
        for bucket in ["delay_seconds_bucket{le=\"0.06\"} 1", "delay_seconds_bucket{le=\"0.1\"} 2"] {
            assert!(text.contains(bucket), "{bucket}: {text}");
        }
        assert!(!text.contains("other_seconds_bucket{le=\"0.06\"}"), "{text}");
        assert!(text.contains("other_seconds_bucket{le=\"0.0005\"} 0"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_histograms_are_told_takes_no_memory_when_nobody_reads_them() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = MetricsHandle { recorder: recorder.handle(), ..MetricsHandle::for_tests() };
        let mut tasks = Tasks::new(CancellationToken::new());
        tasks.spawn("upkeep", keep_up(handle.clone(), tasks.shutdown()));
        let before_mib = resident_mib();
        for _ in 0..20 {
            with_local_recorder(&recorder, || {
                let seconds = histogram!("seconds");
                (0..200_000).for_each(|_| seconds.record(0.001));
            });
            sleep(UPKEEP).await;
        }
        // All of them are 61 MiB.
        let grown_mib = resident_mib().saturating_sub(before_mib);
        assert!(grown_mib < 30, "{grown_mib} MiB");
        assert!(handle.render().contains("seconds_count 4000000"), "{}", handle.render());
        tasks.shutdown().cancel();
        tasks.join(UPKEEP).await.unwrap();
    }
}
