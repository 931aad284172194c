//! What the process reports about itself: log lines, rate-limited warnings, and its use of the machine.

use std::fmt::Display;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Human,
    /// For programs: one JSON object a line.
    Json,
}

impl LogFormat {
    /// # Errors
    /// The allowed values.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err("allowed are human and json".to_owned()),
        }
    }
}

/// Checks a filter of log lines.
///
/// # Errors
/// The allowed values.
pub(crate) fn check_level(text: &str) -> Result<String, String> {
    let allowed =
        "allowed are error, warn, info, debug, trace, or a filter such as info,tidings_node=debug";
    let filter = EnvFilter::try_new(text);
    filter.map(|_| text.to_owned()).map_err(|_| allowed.to_owned())
}

/// The same warning is logged at most this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(5);

/// Sets up log lines, on standard error. A second call in one process changes nothing.
pub(crate) fn start(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_new(level).unwrap_or_default();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let _already_set = match format {
        LogFormat::Human => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}

/// A warning whose cause may occur very often. It is logged at a bounded rate, with the number of times it occurred.
pub(crate) struct Complaint {
    what: &'static str,
    /// When it was last logged, and how often it has occurred since.
    last: Mutex<(Option<Instant>, u64)>,
}

impl Complaint {
    pub(crate) const fn new(what: &'static str) -> Self {
        Self { what, last: Mutex::new((None, 0)) }
    }

    pub(crate) fn warn(&self, why: &dyn Display) {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        last.1 += 1;
        if last.0.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            tracing::warn!(times = last.1, %why, "{}", self.what);
            *last = (Some(Instant::now()), 0);
        }
    }
}

/// What the operating system reports about this process.
pub(crate) struct Process {
    /// User and system CPU time since the start.
    pub(crate) cpu_seconds: f64,
    /// Resident memory.
    pub(crate) resident_bytes: u64,
    /// Open descriptors.
    pub(crate) open_fds: usize,
}

impl Process {
    /// Reads `/proc/self`. All figures are zero where there is none.
    pub(crate) fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The second field, the program's name in brackets, may contain blanks.
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let number = |place: usize| -> u64 {
            fields.get(place).and_then(|field| field.parse().ok()).unwrap_or_default()
        };
        #[expect(clippy::cast_precision_loss, reason = "2^53 ticks are more than a process lives")]
        let seconds = |ticks: u64| ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        Self {
            cpu_seconds: seconds(number(11) + number(12)),
            resident_bytes: number(21) * rustix::param::page_size() as u64,
            open_fds: std::fs::read_dir("/proc/self/fd").map(Iterator::count).unwrap_or_default(),
        }
    }
}
