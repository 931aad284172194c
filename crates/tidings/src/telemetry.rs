//! What the process says of itself: log lines, and complaints that do not repeat without end.

use std::fmt::Display;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Settings};

/// The same complaint is made at most this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(5);

/// Sets up log lines, on standard error. A second call changes nothing.
pub(crate) fn start(settings: &Settings) {
    let filter = EnvFilter::try_new(&settings.log_level).unwrap_or_default();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let _already_set = match settings.log_format {
        LogFormat::Human => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}

/// A complaint that may come very often: it is logged now and then, with how often it came.
pub(crate) struct Complaint {
    what: &'static str,
    /// When it was last logged, and how often it came since.
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

/// What the operating system says of this process.
pub(crate) struct Process {
    /// User and system time so far.
    pub(crate) cpu_seconds: f64,
    /// Memory held.
    pub(crate) resident_bytes: u64,
    /// Descriptors open.
    pub(crate) open_fds: usize,
}

impl Process {
    /// Reads `/proc/self`; zeros where there is none.
    pub(crate) fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name of the program, in brackets, may contain blanks.
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
