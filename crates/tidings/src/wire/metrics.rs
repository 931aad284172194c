//! The text format of Prometheus (exposition format 0.0.4), as far as it is needed here.

use std::fmt::{Display, Write};

/// Metrics, written one behind the other.
#[derive(Default)]
pub(crate) struct Text(String);

impl Text {
    pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _into_a_string = writeln!(self.0, "{line}");
    }

    /// Something that only goes up.
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "counter");
        self.line(format_args!("{name} {value}"));
    }

    /// The same for each value of a label.
    pub(crate) fn counters(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        self.head(name, help, "counter");
        for (which, value) in values {
            self.line(format_args!("{name}{{{label}=\"{which}\"}} {value}"));
        }
    }

    /// Something that goes up and down.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "gauge");
        self.line(format_args!("{name} {value}"));
    }

    /// The same for each value of a label.
    pub(crate) fn gauges(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        self.head(name, help, "gauge");
        for (which, value) in values {
            self.line(format_args!("{name}{{{label}=\"{which}\"}} {value}"));
        }
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}
