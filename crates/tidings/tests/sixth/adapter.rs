//! The pulse over HTTP.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use tidings_core::machine::pulse::{Command, Limits, Pulse};
use tidings_node::{Builder, Handle, Refused};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::contract::{Context, Machine, Service};
use crate::layers::{Layers, Unusable};
use crate::wire::http::Problem;
use crate::wire::http::failures::Unstored;
use crate::wire::metrics::Text;

/// What the handlers share.
pub(crate) struct Adapter {
    machine: Handle<Pulse>,
}

impl Service for Adapter {
    const ABOUT: &str = "Beats, counted";
    type Settings = Limits;
    type Installed = Handle<Pulse>;

    fn settings(layers: &Layers) -> Result<Limits, Unusable> {
        Ok(Limits { beats_max: layers.count("pulse.beats_max", 1..=u64::MAX >> 1)? })
    }

    fn install(_: &Limits, machine: Machine, builder: &mut Builder) -> Handle<Pulse> {
        builder.add(machine.id, machine.name, Pulse::default())
    }

    async fn start(
        machine: Handle<Pulse>,
        limits: Limits,
        _: Context,
    ) -> Result<Self, Refused> {
        if machine.read(|machine| machine.limits() != limits) {
            super::settle(&machine, Command::Configure(limits)).await?;
        }
        Ok(Self { machine })
    }

    fn routes(self: &Arc<Self>) -> OpenApiRouter {
        OpenApiRouter::new().routes(routes!(post_beat)).with_state(Arc::clone(self))
    }

    fn metrics(&self, out: &mut Text) {
        out.counter("tidings_pulse_beats_total", "Beats.", self.machine.read(Pulse::beats));
    }
}

/// Count a beat
#[utoipa::path(
    post,
    path = "/pulse",
    tag = "pulse",
    responses((status = 201, description = "How many there were.", body = u64), Unstored),
)]
async fn post_beat(State(adapter): State<Arc<Adapter>>) -> Result<(StatusCode, Json<u64>), Problem> {
    let beats = adapter.machine.propose(Command::Beat).await?;
    Ok((StatusCode::CREATED, Json(beats)))
}
