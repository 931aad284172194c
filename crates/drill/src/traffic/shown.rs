//! What the servers show over HTTP: as many communications as were sent, and all of them the same.

use std::sync::Arc;

use serde_json::Value;

use super::report::Report;
use crate::http::{Answer, Client, Cluster};

/// What must be equal at all servers.
const SAME: [&str; 5] = ["communications", "unresolved", "children", "parents", "dropped"];

/// What a server shows, if it shows anything in time.
async fn ask(at: usize, cluster: &Arc<Cluster>) -> Option<Value> {
    if cluster.len() == 0 {
        return None;
    }
    let mut client = Client::at(at, cluster).strong();
    let answer = client.get("/traffic?rows=100000");
    let answer = tokio::time::timeout(cluster.answer_within(), answer).await.ok()?;
    read(&answer)
}

fn read(answer: &Answer) -> Option<Value> {
    serde_json::from_slice(&answer.body).ok().filter(|_| answer.status == 200)
}

/// Returns the number of communications that the first server to answer has counted; `None` if none answers.
pub(super) async fn communications(servers: &Arc<Cluster>) -> Option<u64> {
    for at in 0..servers.len() {
        let answer = Client::at(at, servers).strong().try_get("/traffic?rows=1").await;
        let shown = answer.ok().as_ref().and_then(read);
        let communications = shown.and_then(|shown| shown.get("communications")?.as_u64());
        if communications.is_some() {
            return communications;
        }
    }
    None
}

/// Compares what each server shows with what was sent, and with what the first one shows.
pub(super) async fn check(cluster: &Arc<Cluster>, before: u64, report: &mut Report) {
    let mut first = None;
    for at in 0..cluster.len() {
        let name = Client::at(at, cluster).authority().to_owned();
        let Some(shown) = ask(at, cluster).await else {
            report.differences.add(|| format!("{name} does not answer GET /traffic"));
            continue;
        };
        let came = shown.get("communications").and_then(Value::as_u64).unwrap_or(0);
        let came = came.saturating_sub(before);
        let allowed = report.calls - report.doubtful.min(report.calls)..=report.calls;
        if !allowed.contains(&came) {
            let least = allowed.start();
            report.differences.add(|| {
                format!("{name} shows {came} communications, expected {least} to {}", allowed.end())
            });
        }
        let first = first.get_or_insert_with(|| shown.clone());
        for field in SAME.into_iter().filter(|field| first.get(field) != shown.get(field)) {
            let (one, other) = (first.get(field), shown.get(field));
            report
                .differences
                .add(|| format!("{name} shows {field} {other:?}, and the first target {one:?}"));
        }
        let windows = |shown: &Value| {
            let reports = shown.get("reports").and_then(Value::as_array).cloned();
            let mut reports = reports.unwrap_or_default();
            // Whether one was sent is known a little after it was.
            reports.iter_mut().filter_map(Value::as_object_mut).for_each(|report| {
                report.remove("sent");
            });
            reports
        };
        if windows(first) != windows(&shown) {
            report.differences.add(|| format!("{name} and the first target show other reports"));
        }
    }
}
