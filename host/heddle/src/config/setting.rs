//! What a value of the configuration may be: its form in TOML, in a variable, and how it is shown.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

/// A type that a key may have.
pub(crate) trait Setting: Sized + PartialOrd {
    /// What is expected, as an error names it.
    const FORM: &'static str;

    /// From TOML; the error says what is wrong with the value in one clause.
    fn from_value(value: &Value) -> Result<Self, String>;

    /// From the text of a variable or a flag.
    fn from_text(text: &str) -> Result<Self, String> {
        Self::from_value(&Value::String(text.to_owned()))
    }

    /// As it would stand in the file.
    fn show(&self) -> String;
}

fn expected<T: Setting>() -> String {
    format!("is not {}", T::FORM)
}

fn text_of<T: Setting>(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(expected::<T>)
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

impl Setting for u64 {
    const FORM: &'static str = "a whole number";

    fn from_value(value: &Value) -> Result<Self, String> {
        value.as_integer().and_then(|number| Self::try_from(number).ok()).ok_or_else(expected::<Self>)
    }

    fn from_text(text: &str) -> Result<Self, String> {
        text.trim().replace('_', "").parse().map_err(|_| expected::<Self>())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for bool {
    const FORM: &'static str = "true or false";

    fn from_value(value: &Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(expected::<Self>)
    }

    fn from_text(text: &str) -> Result<Self, String> {
        text.trim().parse().map_err(|_| expected::<Self>())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for String {
    const FORM: &'static str = "a text in quotes";

    fn from_value(value: &Value) -> Result<Self, String> {
        text_of::<Self>(value).map(str::to_owned)
    }

    fn show(&self) -> String {
        quoted(self)
    }
}

impl Setting for PathBuf {
    const FORM: &'static str = "a path in quotes";

    fn from_value(value: &Value) -> Result<Self, String> {
        text_of::<Self>(value).map(Self::from)
    }

    fn show(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl Setting for SocketAddr {
    const FORM: &'static str = "an address with a port like \"127.0.0.1:7600\"";

    fn from_value(value: &Value) -> Result<Self, String> {
        text_of::<Self>(value)?.parse().map_err(|_| expected::<Self>())
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for Vec<String> {
    const FORM: &'static str = "a list of texts like [\"one\", \"two\"]";

    fn from_value(value: &Value) -> Result<Self, String> {
        let items = value.as_array().ok_or_else(expected::<Self>)?;
        items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(expected::<Self>)).collect()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        list_from_text::<Self>(text)
    }

    fn show(&self) -> String {
        let items: Vec<String> = self.iter().map(|item| quoted(item)).collect();
        format!("[{}]", items.join(", "))
    }
}

/// In a variable a list is TOML in brackets, or items between commas.
fn list_from_text<T: Setting>(text: &str) -> Result<T, String> {
    let text = text.trim();
    if text.starts_with('[') {
        let table: toml::Table = format!("v = {text}").parse().map_err(|_| expected::<T>())?;
        return T::from_value(&table["v"]);
    }
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    T::from_value(&Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
}

/// A length of time: a number and a unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

const SPANS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];

impl Span {
    /// In milliseconds.
    #[must_use]
    pub fn millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Setting for Span {
    const FORM: &'static str = "a time with its unit (ms, s, min, h, d) like \"30 s\"";

    fn from_value(value: &Value) -> Result<Self, String> {
        let millis = with_unit(text_of::<Self>(value)?, &SPANS).ok_or_else(expected::<Self>)?;
        Ok(Self(Duration::from_millis(millis)))
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_units(self.millis(), &SPANS, "ms"))
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A number of bytes: a number and a unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Size {
    /// As an index or a length in memory.
    #[must_use]
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Setting for Size {
    const FORM: &'static str = "a size with its unit (B, KiB, MiB, GiB) like \"64 KiB\"";

    fn from_value(value: &Value) -> Result<Self, String> {
        with_unit(text_of::<Self>(value)?, &SIZES).map(Self).ok_or_else(expected::<Self>)
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_units(self.0, &SIZES, "B"))
    }
}

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_')?;
    let number: u64 = text[..end].replace('_', "").parse().ok()?;
    let unit = text[end..].trim();
    units.iter().find(|(name, _)| *name == unit).and_then(|(_, factor)| number.checked_mul(*factor))
}

fn in_units(number: u64, units: &[(&str, u64)], smallest: &str) -> String {
    let fits = units.iter().find(|(_, factor)| number >= *factor && number.is_multiple_of(*factor));
    fits.map_or_else(|| format!("{number} {smallest}"), |(name, factor)| format!("{} {name}", number / factor))
}

/// A network of addresses: an address, or an address and the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    /// The address; bits beyond the prefix do not matter.
    pub address: IpAddr,
    /// How many leading bits count.
    pub prefix_bits: u8,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

impl Setting for Vec<Network> {
    const FORM: &'static str = "a list of addresses or networks like [\"10.0.0.0/8\", \"::1\"]";

    fn from_value(value: &Value) -> Result<Self, String> {
        let items = value.as_array().ok_or_else(expected::<Self>)?;
        items.iter().map(|item| item.as_str().and_then(network).ok_or_else(expected::<Self>)).collect()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        list_from_text::<Self>(text)
    }

    fn show(&self) -> String {
        let items: Vec<String> = self.iter().map(|n| quoted(&n.to_string())).collect();
        format!("[{}]", items.join(", "))
    }
}

fn network(text: &str) -> Option<Network> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix_bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
    (prefix_bits <= most).then_some(Network { address, prefix_bits })
}

/// A table whose keys are somebody else's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Free(pub toml::Table);

impl PartialOrd for Free {
    fn partial_cmp(&self, _: &Self) -> Option<std::cmp::Ordering> {
        None
    }
}

impl Setting for Free {
    const FORM: &'static str = "a table like { token-bucket = { burst = 50 } }";

    fn from_value(value: &Value) -> Result<Self, String> {
        let table = value.as_table().ok_or_else(expected::<Self>)?;
        if table.values().all(Value::is_table) { Ok(Self(table.clone())) } else { Err(expected::<Self>()) }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let table: toml::Table = format!("v = {text}").parse().map_err(|_| expected::<Self>())?;
        Self::from_value(&table["v"])
    }

    fn show(&self) -> String {
        Value::Table(self.0.clone()).to_string()
    }
}

/// One of a few words: an enum whose variants have a word each.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? } form $form:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $crate::config::setting::Setting for $name {
            const FORM: &'static str = $form;

            fn from_value(value: &toml::Value) -> Result<Self, String> {
                match value.as_str() {
                    $(Some($word) => Ok(Self::$variant),)+
                    _ => Err(format!("is not {}", $form)),
                }
            }

            fn show(&self) -> String {
                match self { $(Self::$variant => format!("{:?}", $word)),+ }
            }
        }
    };
}
pub(crate) use choice;
