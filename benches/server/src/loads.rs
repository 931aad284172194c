//! The loads: what the server is started with, and what a drill sends.

/// One load.
pub(crate) struct Load {
    /// The service, by which loads are chosen.
    pub(crate) service: &'static str,
    pub(crate) name: &'static str,
    /// The row of the verdict with the rate.
    pub(crate) rate: &'static str,
    /// The unit of which the verdict gives the server's CPU time.
    pub(crate) per: &'static str,
    /// Whether the server keeps its data on disk.
    pub(crate) durable: bool,
    /// More flags of the server.
    pub(crate) serve: &'static str,
    /// The flags of the drill.
    pub(crate) drill: &'static str,
}

const DIAL: &str = "--traffic-url ws://127.0.0.1:5051/ws --traffic-window 5s";

macro_rules! loads {
    ($($service:literal $name:literal, $rate:literal / $per:literal, $durable:literal, $serve:expr, $drill:literal;)*) => {
        /// All loads, in the order of the tables.
        pub(crate) const LOADS: &[Load] = &[$(Load {
            service: $service, name: $name, rate: $rate, per: $per, durable: $durable, serve: $serve, drill: $drill,
        }),*];
    };
}

loads! {
    "rockets" "single, memory, 32 connections", "messages/s" / "message", false, "", "--shuffle 0 --senders 32 --messages 400000";
    "rockets" "single, memory, 16 pipelined", "messages/s" / "message", false, "", "--shuffle 0 --senders 32 --pipeline 16 --messages 1500000";
    "rockets" "single, memory, 64 connections", "messages/s" / "message", false, "", "--shuffle 0 --senders 64 --messages 400000";
    "rockets" "single, durable, 64 connections", "messages/s" / "message", true, "", "--shuffle 0 --senders 64 --messages 400000";
    "rockets" "bulk of 1,000, memory", "messages/s" / "message", false, "", "--shuffle 0 --senders 4 --bulk 1000 --messages 5000000";
    "rockets" "bulk of 1,000, durable", "messages/s" / "message", true, "", "--shuffle 0 --senders 4 --bulk 1000 --messages 5000000";
    "chat" "chat, memory, 32 connections", "requests/s" / "request", false, "", "--plain --messages 500000";
    "chat" "chat, posts alone, memory", "requests/s" / "request", false, "", "--plain --messages 1000000 --readers 0 --writers 32";
    "chat" "chat, durable, 64 connections", "requests/s" / "request", true, "", "--plain --messages 300000 --writers 32 --readers 32";
    "maze" "maze light, 1,000,000, memory", "events/s" / "event", false, "", "--events 1000000";
    "maze" "maze light, 10,000,000, memory", "events/s" / "event", false, "", "";
    "maze" "maze light, 10,000,000, durable", "events/s" / "event", true, "", "";
    "maze" "maze heavy, 1,000,000, memory", "events/s" / "event", false, "", "--mix heavy --events 1000000";
    "maze" "maze heavy, 10,000,000, memory", "events/s" / "event", false, "", "--mix heavy";
    "maze" "maze heavy, 10,000,000, durable", "events/s" / "event", true, "", "--mix heavy";
    "maze" "maze heavy, 5,000 clients", "events/s" / "event", false, "", "--mix heavy --events 1000000 --clients 5000 --users 50000";
    "traffic" "traffic, one a frame, memory", "communications/s" / "communication", false, DIAL, "--listen 127.0.0.1:5051 --window-ms 5000 --rate 0 --communications 6000000";
    "traffic" "traffic, one a frame, durable", "communications/s" / "communication", true, DIAL, "--listen 127.0.0.1:5051 --window-ms 5000 --rate 0 --communications 6000000";
    "traffic" "traffic, arrays of 100, memory", "communications/s" / "communication", false, DIAL, "--listen 127.0.0.1:5051 --window-ms 5000 --rate 0 --communications 20000000 --array 100";
    "traffic" "traffic, arrays of 100, durable", "communications/s" / "communication", true, DIAL, "--listen 127.0.0.1:5051 --window-ms 5000 --rate 0 --communications 20000000 --array 100";
    "tracker" "tracker, memory, 32 connections", "requests/s" / "request", false, "", "--plain --messages 500000 --connections 32";
    "tracker" "tracker, durable, 64 connections", "requests/s" / "request", true, "", "--plain --messages 500000 --connections 64";
}

/// The loads that two binaries are compared by.
pub(crate) const COMPARED: [&str; 7] = [
    "single, memory, 32 connections",
    "single, memory, 16 pipelined",
    "single, durable, 64 connections",
    "maze light, 1,000,000, memory",
    "maze heavy, 1,000,000, memory",
    "traffic, one a frame, memory",
    "chat, memory, 32 connections",
];
