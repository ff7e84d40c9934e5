//! Free text on its way into Postgres, whose TEXT holds every character but one.

use std::borrow::Cow;

use heddle_model::UserId;

/// The text, with U+FFFD for NUL. Ids have no control characters; names of groups, reasons and errors may have this one.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// A column of users.
pub(super) fn names(users: &[UserId]) -> Vec<String> {
    users.iter().map(|user| user.as_str().to_owned()).collect()
}
