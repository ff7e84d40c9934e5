use std::cmp::Ordering;

use data_encoding::{BASE64, HEXUPPER};
use minisign_verify::{PublicKey, Signature};

/// Bytes of a signature file; minisign's have about 400.
pub const SIGNATURE_BYTES_MAX: usize = 4 << 10;
/// Of a key in minisign's form: algorithm, id, key.
const KEY_BYTES: usize = 42;

/// Whose signatures count, and whether there must be one. Signatures are minisign's (prehashed Ed25519, <https://jedisct1.github.io/minisign/>)
/// over the whole plugin file.
#[derive(Clone, Debug, Default)]
pub struct TrustList {
    keys: Vec<(String, PublicKey)>,
    required: bool,
}

/// Who signed a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The public key, as the list has it.
    pub key: String,
    /// What the signature says besides, and covers.
    pub comment: String,
}

/// Why a file is not trusted. For whoever deploys it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Not a public key.
    #[error("{key:?} is no public key of minisign: it is the second line of the .pub file, and begins with \"RW\"")]
    Key {
        /// As it stands in the list.
        key: String,
    },
    /// One is required.
    #[error(
        "it is not signed, and policies.require_signature asks for it: run `heddle plugin sign FILE --key KEY`, and deploy it with FILE.minisig beside it"
    )]
    Missing,
    /// Not a signature.
    #[error(
        "the signature cannot be read: it is the whole file that `heddle plugin sign` or minisign wrote, FILE.minisig"
    )]
    Malformed,
    /// Made with a key that is not in the list.
    #[error(
        "it is signed with the key {id}, which policies.trusted_keys does not name: sign it with a trusted key, or let its operator add this one"
    )]
    Unknown {
        /// The key's id, as minisign prints it.
        id: String,
    },
    /// The file is another than the one that was signed, or the signature is.
    #[error(
        "the signature does not fit the file: it was changed after it was signed, or this is another file's signature; sign it again"
    )]
    Wrong,
}

impl TrustList {
    /// From public keys as minisign writes them.
    ///
    /// # Errors
    /// One of them is none.
    pub fn new(keys: &[String], required: bool) -> Result<Self, TrustError> {
        let read = |key: &String| {
            let parsed = PublicKey::from_base64(key.trim()).map_err(|_| TrustError::Key { key: key.clone() })?;
            Ok((key.trim().to_owned(), parsed))
        };
        Ok(Self { keys: keys.iter().map(read).collect::<Result<_, _>>()?, required })
    }

    /// Must a file be signed?
    pub fn required(&self) -> bool {
        self.required
    }

    /// Who signed the file; none where nobody has to, and no key is trusted or there is no signature.
    ///
    /// # Errors
    /// It is unsigned and must not be, or signed by nobody that is trusted. A wrong signature is refused even where none is required.
    pub fn check(&self, file: &[u8], signature: Option<&str>) -> Result<Option<Signer>, TrustError> {
        let Some(text) = signature else {
            return if self.required { Err(TrustError::Missing) } else { Ok(None) };
        };
        if self.keys.is_empty() && !self.required {
            return Ok(None);
        }
        if text.len() > SIGNATURE_BYTES_MAX {
            return Err(TrustError::Malformed);
        }
        let signature = Signature::decode(text).map_err(|_| TrustError::Malformed)?;
        let id = signature_key(text).ok_or(TrustError::Malformed)?;
        let named = self.keys.iter().filter(|(key, _)| public_key_id(key).as_ref() == Some(&id));
        let mut known = false;
        for (key, public) in named {
            known = true;
            if public.verify(file, &signature, false).is_ok() {
                let comment = signature.trusted_comment().to_owned();
                return Ok(Some(Signer { key: key.clone(), comment }));
            }
        }
        Err(if known { TrustError::Wrong } else { TrustError::Unknown { id } })
    }
}

/// The id of the key that made a signature, as minisign prints it.
pub fn signature_key(signature: &str) -> Option<String> {
    let line = signature.lines().nth(1)?;
    id(&BASE64.decode(line.trim().as_bytes()).ok()?)
}

/// The id of a public key, as minisign prints it.
pub fn public_key_id(key: &str) -> Option<String> {
    let bytes = BASE64.decode(key.trim().as_bytes()).ok()?;
    if bytes.len() == KEY_BYTES { id(&bytes) } else { None }
}

/// The eight bytes after the algorithm's two, least significant first.
fn id(bytes: &[u8]) -> Option<String> {
    let mut id: [u8; 8] = bytes.get(2..10)?.try_into().ok()?;
    id.reverse();
    Some(HEXUPPER.encode(&id))
}

/// Which of two versions is newer, as <https://semver.org> orders them; none if one of them is not written so.
pub fn version_order(one: &str, other: &str) -> Option<Ordering> {
    let parsed = |text: &str| semver::Version::parse(text).ok();
    // Build metadata does not count.
    Some(parsed(one)?.cmp_precedence(&parsed(other)?))
}
