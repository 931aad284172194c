//! The list of rockets: filter, order, page. One pass over all of them that keeps the best.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use tidings_core::machine::rockets::{Channel, MessageTime, Rocket};
use utoipa::IntoParams;

use super::render;
use crate::wire::http::query::{self, Number};
use crate::wire::http::{Problem, page};

/// The most rockets on a page, which is the default too.
const LIMIT_MAX: u32 = 10_000;

type Limit = Number<1, LIMIT_MAX>;

/// The parameters of a page.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    /// What to order by: `id` (default), `type`, `speed`, `mission`, `status` or `updatedAt`. Ties are in order of id; rockets
    /// without the value come last in both directions.
    #[param(value_type = Option<String>)]
    sort: Option<Sort>,
    /// `asc` (default) or `desc`.
    #[param(value_type = Option<String>)]
    order: Option<Order>,
    /// Only `active` or only `exploded` rockets.
    #[param(value_type = Option<String>)]
    status: Option<Status>,
    /// Only rockets of this type.
    r#type: Option<String>,
    /// Only rockets on this mission.
    mission: Option<String>,
    /// How many rockets are on a page (default: 10000).
    #[param(inline)]
    limit: Option<Limit>,
    /// Where the page begins: from the `Link` header of the page before.
    cursor: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    Asc,
    Desc,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Active,
    Exploded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Sort {
    Id,
    Type,
    Speed,
    Mission,
    Status,
    UpdatedAt,
}

/// The value that rockets are ordered by. `Missing` is handled apart, since it comes last in both directions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Key<'a> {
    Missing,
    Id([u8; 16]),
    Text(std::borrow::Cow<'a, str>),
    Number(i64),
    Exploded(bool),
    Time(MessageTime),
}

/// Where a page begins: after this rocket, in this order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Place {
    sort: Sort,
    descending: bool,
    key: Key<'static>,
    id: [u8; 16],
}

/// A request for a page.
#[derive(Debug)]
pub(super) struct Query {
    sort: Sort,
    descending: bool,
    exploded: Option<bool>,
    kind: Option<String>,
    mission: Option<String>,
    limit: usize,
    after: Option<Place>,
}

impl Query {
    /// # Errors
    /// 400 naming the parameter and what is allowed.
    pub(super) fn read(query: Option<&str>) -> Result<Self, Problem> {
        let asked: Parameters = query::read(query)?;
        let read = Self {
            sort: asked.sort.unwrap_or(Sort::Id),
            descending: asked.order == Some(Order::Desc),
            exploded: asked.status.map(|status| status == Status::Exploded),
            kind: asked.r#type,
            mission: asked.mission,
            limit: asked.limit.map_or(LIMIT_MAX, |limit| limit.0) as usize,
            after: asked.cursor.map(|cursor| page::read_cursor(&cursor)).transpose()?,
        };
        if read
            .after
            .as_ref()
            .is_some_and(|at| (at.sort, at.descending) != (read.sort, read.descending))
        {
            return Err(Problem::field("cursor", "it belongs to another sort or order"));
        }
        Ok(read)
    }

    /// Returns the page as JSON, and where the next one begins. O(rockets), and O(page log page) to sort.
    pub(super) fn run(&self, rockets: &[Rocket]) -> (Vec<u8>, Option<Place>) {
        let mut best = self.best(rockets);
        let more = best.len() > self.limit;
        best.truncate(self.limit);
        let next = best.last().filter(|_| more).map(|(key, rocket)| Place {
            sort: self.sort,
            descending: self.descending,
            key: owned(key),
            id: rocket.channel().0,
        });
        let mut body = Vec::with_capacity(2 + best.len() * 420);
        body.push(b'[');
        for (place, (_, rocket)) in best.iter().enumerate() {
            if place > 0 {
                body.push(b',');
            }
            render::rocket(rocket, &mut body);
        }
        body.push(b']');
        (body, next)
    }

    /// Returns the rockets of the page and one more, in order.
    fn best<'a>(&self, rockets: &'a [Rocket]) -> Vec<(Key<'a>, &'a Rocket)> {
        let wanted = self.limit + 1;
        let mut best: Vec<(Key<'a>, &Rocket)> = Vec::new();
        // At twice as many as wanted the worse half is dropped. From then on a rocket that is worse than the worst of the
        // better half is skipped at once.
        let mut worst: Option<(Key<'a>, &Rocket)> = None;
        for rocket in rockets.iter().filter(|rocket| self.wants(rocket)) {
            let item = (self.key(rocket), rocket);
            let behind = self.after.as_ref().is_none_or(|after| {
                self.compare(&item.0, rocket.channel(), &after.key, Channel(after.id)).is_gt()
            });
            let good = worst.as_ref().is_none_or(|worst| self.order(&item, worst).is_lt());
            if behind && good {
                best.push(item);
                if best.len() >= wanted.saturating_mul(2) {
                    best.select_nth_unstable_by(wanted - 1, |a, b| self.order(a, b));
                    best.truncate(wanted);
                    worst = best.last().cloned();
                }
            }
        }
        best.sort_unstable_by(|a, b| self.order(a, b));
        best.truncate(wanted);
        best
    }

    fn wants(&self, rocket: &Rocket) -> bool {
        let state = rocket.state();
        self.exploded.is_none_or(|exploded| state.exploded() == exploded)
            && (self.kind.is_none() || self.kind.as_deref() == state.kind.as_deref())
            && (self.mission.is_none() || self.mission.as_deref() == state.mission.as_deref())
    }

    fn key<'a>(&self, rocket: &'a Rocket) -> Key<'a> {
        let state = rocket.state();
        let text = |text: &'a Option<std::sync::Arc<str>>| {
            text.as_deref().map_or(Key::Missing, |text| Key::Text(text.into()))
        };
        match self.sort {
            Sort::Id => Key::Id(rocket.channel().0),
            Sort::Type => text(&state.kind),
            Sort::Speed => Key::Number(state.speed),
            Sort::Mission => text(&state.mission),
            Sort::Status => Key::Exploded(state.exploded()),
            Sort::UpdatedAt => Key::Time(state.updated),
        }
    }

    fn order(&self, a: &(Key<'_>, &Rocket), b: &(Key<'_>, &Rocket)) -> Ordering {
        self.compare(&a.0, a.1.channel(), &b.0, b.1.channel())
    }

    fn compare(&self, a: &Key<'_>, a_id: Channel, b: &Key<'_>, b_id: Channel) -> Ordering {
        let missing_last = (*a == Key::Missing).cmp(&(*b == Key::Missing));
        let by_key = if self.descending { b.cmp(a) } else { a.cmp(b) };
        missing_last.then(by_key).then(a_id.cmp(&b_id))
    }
}

fn owned(key: &Key<'_>) -> Key<'static> {
    match key {
        Key::Missing => Key::Missing,
        Key::Id(id) => Key::Id(*id),
        Key::Text(text) => Key::Text(text.clone().into_owned().into()),
        Key::Number(number) => Key::Number(*number),
        Key::Exploded(exploded) => Key::Exploded(*exploded),
        Key::Time(time) => Key::Time(*time),
    }
}

#[cfg(test)]
mod tests;
