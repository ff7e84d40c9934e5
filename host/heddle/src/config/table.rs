//! From a table of keys to typed sections: the structs, their defaults, and the list that documents and checks them.

use std::collections::BTreeMap;

use toml::Value;

use super::problem::Problem;
use super::setting::Setting;

/// A key, for people.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// `section.key`.
    pub path: &'static str,
    /// Its section.
    pub section: &'static str,
    /// Its name within the section.
    pub name: &'static str,
    /// What it means; lines begin with a space.
    pub doc: &'static [&'static str],
    /// Its default, as TOML.
    pub default: &'static str,
    /// Smallest and largest value, as TOML; empty if there is none.
    pub range: &'static str,
    /// What kind of value it takes.
    pub form: &'static str,
    /// Never shown.
    pub secret: bool,
}

impl Key {
    /// The environment variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("HEDDLE_{}__{}", self.section, self.name).to_uppercase()
    }
}

/// A value as it was given.
#[derive(Debug, Clone)]
pub(crate) enum Raw {
    /// In a file.
    Toml(Value),
    /// In a variable or a flag.
    Text(String),
}

/// A value and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) raw: Raw,
    pub(crate) origin: String,
}

/// Values by the path of their key.
pub(crate) type Values = BTreeMap<String, Given>;

/// Takes one key out of the values, or its default; what is wrong goes to `problems`.
pub(crate) fn take<T: Setting>(
    key: &Key,
    range: Option<(&str, &str)>,
    values: &Values,
    problems: &mut Vec<Problem>,
) -> T {
    let default = || literal::<T>(key.default);
    let Some(Given { raw, origin }) = values.get(key.path) else { return default() };
    let (read, shown) = match raw {
        Raw::Toml(value) => (T::from_value(value), value.to_string()),
        Raw::Text(text) => (T::from_text(text), format!("{text:?}")),
    };
    let shown = if key.secret { "the value".to_owned() } else { shown };
    let ranged = read.and_then(|value| match range {
        Some((low, high)) if value < literal::<T>(low) || value > literal::<T>(high) => {
            Err(format!("is not between {low} and {high}"))
        }
        _ => Ok(value),
    });
    ranged.unwrap_or_else(|wrong| {
        problems.push(Problem {
            key: key.path.to_owned(),
            origin: origin.clone(),
            wrong: format!("{shown} {wrong}"),
            remedy: format!("write {}, or leave it out for {}", T::FORM, key.default),
        });
        default()
    })
}

/// A value that stands in the table itself.
///
/// # Panics
/// If the table is wrong, which a test finds.
fn literal<T: Setting>(text: &str) -> T {
    let table: toml::Table = format!("v = {text}").parse().expect("the table of keys holds TOML");
    T::from_value(&table["v"]).expect("the table of keys holds values of its own types")
}

/// Declares sections: each key with its documentation, type, default and, in brackets, its range.
macro_rules! sections {
    ($($(#[doc = $sdoc:literal])+ $section:ident: $Section:ident {
        $($(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:tt $([$low:literal, $high:literal])? $(: $secret:ident)?;)+
    })+) => {
        /// The whole configuration.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Config { $($(#[doc = $sdoc])+ pub $section: $Section),+ }

        $($(#[doc = $sdoc])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $Section { $($(#[doc = $doc])+ pub $key: $type),+ })+

        /// Sections with their documentation, in the order of the file.
        pub static SECTIONS: &[(&str, &[&str])] = &[$((stringify!($section), &[$($sdoc),+])),+];

        /// All keys, in the order of the file.
        pub static KEYS: &[$crate::config::table::Key] = &[$($($crate::config::table::Key {
            path: concat!(stringify!($section), ".", stringify!($key)),
            section: stringify!($section),
            name: stringify!($key),
            doc: &[$($doc),+],
            default: stringify!($default),
            range: concat!($(stringify!($low), " to ", stringify!($high))?),
            form: <$type as $crate::config::setting::Setting>::FORM,
            secret: [$(stringify!($secret),)? ""].len() > 1,
        }),+),+];

        impl Config {
            /// From the values that were given, defaults for the rest.
            pub(crate) fn from_values(
                values: &$crate::config::table::Values,
                problems: &mut Vec<$crate::config::problem::Problem>,
            ) -> Self {
                let mut keys = KEYS.iter();
                $(let $section = { $(let $key = $crate::config::table::take::<$type>(
                    keys.next().expect("one key each"),
                    None$(.or(Some((stringify!($low), stringify!($high)))))?,
                    values,
                    problems,
                );)+ $Section { $($key),+ } };)+
                Self { $($section),+ }
            }

            /// The value of each key as TOML, in the order of [`KEYS`].
            pub(crate) fn shown(&self) -> Vec<String> {
                vec![$($($crate::config::setting::Setting::show(&self.$section.$key)),+),+]
            }
        }
    };
}
pub(crate) use sections;
