//! `heddle plugin keys new` and `sign`: keys and signatures in minisign's form, which its own tool reads and writes too.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use heddle_pack::{Packed, SIGNATURE_BYTES_MAX};
use minisign::{KeyPair, PublicKey, SecretKey, SecretKeyBox};
use serde_json::json;

use super::source::write_whole;
use crate::cli::Output;
use crate::failure::Failure;

/// The variable with the password of a secret key.
pub const PASSWORD: &str = "HEDDLE_KEY_PASSWORD";

/// Where the signature of a plugin file stands.
pub fn beside(file: &Path) -> PathBuf {
    with(file, ".minisig")
}

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn password() -> Option<String> {
    std::env::var(PASSWORD).ok().filter(|password| !password.is_empty())
}

/// The text of a signature file; `named`: it must be there, else it may.
///
/// # Errors
/// It cannot be read.
pub fn read(file: &Path, named: Option<&Path>) -> Result<Option<String>, Failure> {
    let path = named.map_or_else(|| beside(file), Path::to_owned);
    match std::fs::read_to_string(&path) {
        Ok(text) if text.len() <= SIGNATURE_BYTES_MAX => Ok(Some(text)),
        Ok(_) => Err(Failure::new(format!("{path:?} is too large to be a signature"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok(None),
        Err(error) => {
            Err(Failure::missing(format!("cannot read {path:?} ({error}): name what `heddle plugin sign` wrote")))
        }
    }
}

/// A pair of keys: the secret one for this user alone, the public one beside it.
///
/// # Errors
/// There is one already, or it cannot be written.
pub fn new_keys(file: &Path, output: Output) -> Result<String, Failure> {
    let public = with(file, ".pub");
    for path in [file, &public] {
        if path.exists() {
            return Err(Failure::new(format!(
                "{path:?} is there already: name another file, keys are never written over"
            )));
        }
    }
    let failed = |error: minisign::PError| Failure::new(format!("no key could be made: {error}"));
    let password = password();
    let locked = password.is_some();
    let pair = match password {
        Some(password) => KeyPair::generate_encrypted_keypair(Some(password)),
        None => KeyPair::generate_unencrypted_keypair(),
    };
    let KeyPair { pk, sk } = pair.map_err(failed)?;
    let secret = sk.to_box(Some("secret key for Heddle plugins")).map_err(failed)?.into_string();
    let text = pk.to_box().map_err(failed)?.into_string();
    let unwritten = |path: &Path, error: &std::io::Error| Failure::new(format!("cannot write {path:?}: {error}"));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
        .open(file)
        .and_then(|mut out| out.write_all(format!("{}\n", secret.trim_end()).as_bytes()))
        .map_err(|error| unwritten(file, &error))?;
    std::fs::write(&public, format!("{}\n", text.trim_end())).map_err(|error| unwritten(&public, &error))?;
    let key = pk.to_base64();
    Ok(match output {
        Output::Json => json!({"secret": file, "public": public, "public_key": key, "password": locked}).to_string(),
        Output::Text => {
            let care = if locked {
                format!("its password is that of {PASSWORD}")
            } else {
                format!("it has no password: set {PASSWORD} to give the next one one")
            };
            format!(
                "{}: the secret key, for you alone; {care}
{}: the public key, for whoever trusts you. In the server's configuration:

  [policies]
  trusted_keys = [\"{key}\"]
  require_signature = true",
                file.display(),
                public.display()
            )
        }
    })
}

/// Signs a plugin file; the signature stands beside it.
///
/// # Errors
/// The file is no plugin, or the key cannot be used.
pub fn sign(file: &Path, key: &Path, output: Output) -> Result<String, Failure> {
    let bytes = std::fs::read(file).map_err(|error| {
        Failure::missing(format!("cannot read {file:?} ({error}): name the file that `heddle plugin build` wrote"))
    })?;
    let packed = heddle_pack::unpack(bytes).map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    let key = Key::read(key)?;
    let signature = signature(&packed, &key)?;
    let (name, version) = (&packed.manifest.name, &packed.manifest.version);
    let path = beside(file);
    write_whole(&path, signature.as_bytes())
        .map_err(|error| Failure::new(format!("cannot write {path:?}: {error}")))?;
    let public = key.public.to_base64();
    Ok(match output {
        Output::Json => json!({"path": path, "digest": packed.digest, "public_key": public}).to_string(),
        Output::Text => format!(
            "{}\n{name} {version}, sha256 {}, signed; who trusts {public} takes it",
            path.display(),
            packed.digest
        ),
    })
}

/// The text of a signature of the whole file.
///
/// # Errors
/// The key does not sign.
pub fn signature(packed: &Packed, key: &Key) -> Result<String, Failure> {
    let (name, version) = (&packed.manifest.name, &packed.manifest.version);
    let says = format!("{name} {version} sha256 {}", packed.digest);
    let comment = format!("signature of the Heddle plugin {name} {version}");
    minisign::sign(Some(&key.public), &key.secret, &packed.bytes[..], Some(&says), Some(&comment))
        .map(|signature| signature.to_string())
        .map_err(|error| Failure::new(format!("{name} {version} cannot be signed: {error}")))
}

/// A secret key, opened.
pub struct Key {
    secret: SecretKey,
    public: PublicKey,
}

impl Key {
    /// Reads it, and opens it with the password of the environment if it has one.
    ///
    /// # Errors
    /// It is not there, is no key, or has another password.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::missing(format!(
                "cannot read {path:?} ({error}): name the secret key that `heddle plugin keys new` wrote"
            ))
        })?;
        let unusable = |error: minisign::PError| {
            Failure::usage(format!(
                "{path:?} cannot be used ({error}): it is a secret key of minisign, and {PASSWORD} holds its password"
            ))
        };
        let boxed = || SecretKeyBox::from_string(&text).map_err(unusable);
        let secret = match (boxed()?.into_unencrypted_secret_key(), password()) {
            (Ok(key), _) => key,
            (Err(_), Some(password)) => boxed()?.into_secret_key(Some(password)).map_err(unusable)?,
            // Without one the library would ask on the terminal.
            (Err(error), None) => return Err(unusable(error)),
        };
        let public = PublicKey::from_secret_key(&secret).map_err(unusable)?;
        Ok(Self { secret, public })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use heddle_pack::TrustList;

    use super::*;

    #[test]
    fn a_file_signed_with_a_new_key_is_trusted_and_the_key_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (key, file) = (dir.path().join("k"), dir.path().join("p.wasm"));
        std::fs::write(&file, heddle_builtin::ROUTING.bytes).unwrap();
        let made: serde_json::Value = serde_json::from_str(&new_keys(&key, Output::Json).unwrap()).unwrap();
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let refused = new_keys(&key, Output::Text).unwrap_err();
        assert!(refused.text.contains("there already"), "{refused}");
        sign(&file, &key, Output::Text).unwrap();
        let trust = TrustList::new(&[made["public_key"].as_str().unwrap().to_owned()], true).unwrap();
        let signature = read(&file, None).unwrap();
        let signer = trust.check(heddle_builtin::ROUTING.bytes, signature.as_deref()).unwrap().unwrap();
        assert!(signer.comment.contains("inbox-routing") && signer.comment.contains(heddle_builtin::ROUTING.digest));
    }

    #[test]
    fn what_is_no_plugin_or_no_key_is_not_signed() {
        let dir = tempfile::tempdir().unwrap();
        let (key, file) = (dir.path().join("k"), dir.path().join("p.wasm"));
        std::fs::write(&key, "no key").unwrap();
        std::fs::write(&file, heddle_builtin::ROUTING.bytes).unwrap();
        assert_eq!(sign(&file, &key, Output::Text).unwrap_err().code, crate::failure::USAGE);
        std::fs::write(&file, "no plugin").unwrap();
        assert!(sign(&file, &key, Output::Text).unwrap_err().text.contains("WebAssembly"));
        assert!(!beside(&file).exists());
    }
}
