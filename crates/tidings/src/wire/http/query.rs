//! Query strings, read into the struct that the OpenAPI document describes, so that the two cannot differ.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::{CowStrDeserializer, MapDeserializer};
use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use super::{Problem, json};

/// Reads a query string. `T` denies unknown fields.
///
/// # Errors
/// 400 that names the parameter and what is allowed: for a value that is wrong, a parameter that does not exist, and one that is
/// given twice.
pub(crate) fn read<T: DeserializeOwned>(query: Option<&str>) -> Result<T, Problem> {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let pairs = MapDeserializer::<_, Wrong>::new(pairs.map(|(name, value)| (name, Text(value))));
    serde_path_to_error::deserialize(pairs).map_err(|why| {
        let path = why.path().to_string();
        match why.into_inner() {
            Wrong::Value(why) => Problem::field(&path, why),
            Wrong::Field { name, why } => Problem::field(&name, why),
        }
    })
}

/// A whole number within bounds, which are in its description too. The derives of utoipa take it by an alias only: they do not
/// read the arguments of a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number<const MIN: u32, const MAX: u32>(pub(crate) u32);

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Number<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| digits && (MIN..=MAX).contains(number));
        number.map(Self).ok_or_else(|| {
            let text = json::shortened(&text);
            de::Error::custom(format!("{text:?} is not allowed; allowed are {MIN} to {MAX}"))
        })
    }
}

impl<const MIN: u32, const MAX: u32> PartialSchema for Number<MIN, MAX> {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int32)))
            .minimum(Some(MIN));
        // A bound that only says what fits is no news.
        let number = if MAX == u32::MAX { number } else { number.maximum(Some(MAX)) };
        number.into()
    }
}

impl<const MIN: u32, const MAX: u32> ToSchema for Number<MIN, MAX> {}

/// What is wrong with a query string.
#[derive(Debug)]
enum Wrong {
    /// The value of the parameter that is being read.
    Value(String),
    /// A parameter as a whole.
    Field { name: String, why: String },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(why) | Self::Field { why, .. } => f.write_str(why),
        }
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self::Value(why.to_string())
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let variant = json::shortened(variant);
        Self::Value(format!("{variant:?} is not allowed; allowed are {}", joined(expected)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let why = format!("there is no such parameter; there are {}", joined(expected));
        Self::Field { name: json::shortened(field).to_owned(), why }
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::Field { name: field.to_owned(), why: "it is given twice".to_owned() }
    }
}

/// `a, b and c`
fn joined(names: &[&str]) -> String {
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

/// The value of a parameter.
struct Text<'a>(Cow<'a, str>);

impl IntoDeserializer<'_, Wrong> for Text<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Text<'_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_string(self.0.into_owned())
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &*self.0 {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            other => Err(<Wrong as de::Error>::unknown_variant(other, &["true", "false"])),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        CowStrDeserializer::new(self.0).deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq
        tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        limit: Option<Number<1, 10>>,
        peek: Option<bool>,
        order: Option<Order>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Order {
        Asc,
        Desc,
    }

    fn asked(query: &str) -> Result<Asked, String> {
        read(Some(query)).map_err(|problem: Problem| problem.detail().to_owned())
    }

    #[test]
    fn a_query_is_read_into_its_struct() {
        let all = Asked { limit: Some(Number(7)), peek: Some(true), order: Some(Order::Desc) };
        assert_eq!(asked("order=desc&limit=%37&peek=true"), Ok(all));
        assert_eq!(asked(""), Ok(Asked { limit: None, peek: None, order: None }));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        for (query, why) in [
            ("limit=11", "limit: \"11\" is not allowed; allowed are 1 to 10"),
            ("limit=+1", "limit: \" 1\" is not allowed; allowed are 1 to 10"),
            ("limit=", "limit: \"\" is not allowed; allowed are 1 to 10"),
            ("peek=1", "peek: \"1\" is not allowed; allowed are true and false"),
            ("order=up", "order: \"up\" is not allowed; allowed are asc and desc"),
            ("page=1", "page: there is no such parameter; there are limit, peek and order"),
            ("limit=1&limit=2", "limit: it is given twice"),
        ] {
            assert_eq!(asked(query).unwrap_err(), why);
        }
    }
}
