//! The type of a secret, and the list of those that are alive.

use std::collections::VecDeque;
use std::sync::{Arc, RwLock};

use secrecy::{ExposeSecret, SecretString};

use super::live::{Live, Which};

/// How many secrets the registry remembers. Tokens are replaced about hourly, per audience.
pub const SECRETS_MAX: usize = 256;

/// How many values of the environment are remembered at most: no environment has as many.
const INHERITED_MAX: usize = 8192;

/// How many bytes all secrets may have together, and all values of the environment: as many as Linux
/// gives to an environment at most. To look for them takes eight times as much memory at most; 256 tokens
/// of 1.6 KiB take 3 MiB.
const VALUES_BYTES_MAX: usize = 2 << 20;

static REGISTRY: RwLock<Registry> = RwLock::new(Registry::new());

/// A value that must never be printed: it has no `Display`, no `Debug`, no `Serialize` and no
/// `Clone`, and its memory is overwritten when the last one who holds it lets go.
///
/// The word to search for is [`Secret::expose`].
pub struct Secret(Arc<SecretString>);

impl Secret {
    /// Wraps `value`, a credential that this process obtained, and enters it into the registry.
    /// Secrets of equal value are one in there, and stay as long as anybody holds one of them.
    pub fn new(value: String) -> Self {
        Self(enter(SecretString::from(value), Which::Obtained))
    }

    /// The value itself. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The same secret for another holder, on purpose.
    #[must_use]
    pub fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Enters a value that came with the environment: it is kept out of what is said, as a credential
/// of whoever started this process. White space around it is not part of it.
pub fn inherit(value: &str) {
    drop(enter(SecretString::from(value.trim()), Which::All));
}

/// The values that are live now.
pub(super) fn live() -> Arc<Live> {
    let registry = REGISTRY.read().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(live) = &registry.live {
        return Arc::clone(live);
    }
    // Others may look meanwhile, and wait only to enter one more.
    let live = Arc::new(Live::new(registry.values()));
    let n_entered = registry.n_entered;
    drop(registry);
    let mut registry = REGISTRY.write().unwrap_or_else(|poisoned| poisoned.into_inner());
    // Another value may have come meanwhile; then it is made anew for the next line.
    if registry.n_entered == n_entered {
        registry.live = Some(Arc::clone(&live));
    }
    live
}

/// Values, the oldest first.
type Values = VecDeque<Arc<SecretString>>;

struct Registry {
    obtained: Values,
    inherited: Values,
    /// How many values were entered so far.
    n_entered: u64,
    /// What all of them are looked for with, made when it is first needed after one was entered.
    live: Option<Arc<Live>>,
}

impl Registry {
    const fn new() -> Self {
        Self { obtained: VecDeque::new(), inherited: VecDeque::new(), n_entered: 0, live: None }
    }

    fn values(&self) -> impl Iterator<Item = (&str, Which)> {
        let of =
            |values, origin| Values::iter(values).map(move |value| (value.expose_secret(), origin));
        of(&self.obtained, Which::Obtained).chain(of(&self.inherited, Which::All))
    }
}

/// Enters `value` unless it is known, and makes room for it if there is none.
fn enter(value: SecretString, origin: Which) -> Arc<SecretString> {
    let mut registry = REGISTRY.write().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (values, max) = match origin {
        Which::Obtained => (&mut registry.obtained, SECRETS_MAX),
        Which::All => (&mut registry.inherited, INHERITED_MAX),
    };
    if let Some(known) = values.iter().find(|known| known.expose_secret() == value.expose_secret())
    {
        return Arc::clone(known);
    }
    make_room(values, max, value.expose_secret().len());
    let value = Arc::new(value);
    values.push_back(Arc::clone(&value));
    registry.n_entered += 1;
    registry.live = None;
    value
}

/// Removes values until one of `n_bytes` more is within the limits: first the oldest that nobody holds
/// any more, then the oldest.
fn make_room(values: &mut Values, max: usize, n_bytes: usize) {
    let bytes =
        |values: &Values| -> usize { values.iter().map(|value| value.expose_secret().len()).sum() };
    while !values.is_empty() && (values.len() >= max || bytes(values) + n_bytes > VALUES_BYTES_MAX)
    {
        let dead = values.iter().position(|old| Arc::strong_count(old) == 1);
        values.remove(dead.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::{Debug, Display};
    use std::marker::PhantomData;

    use serde::Serialize;

    use super::*;
    use crate::secret::{REDACTED, holds_credential, redact};

    /// Whether a type can do what its secrets must not: the constant of the inherent impl is found
    /// first, where its bounds hold.
    struct Can<T>(PhantomData<T>);

    trait Cannot {
        const PRINT: bool = false;
        const SHOW: bool = false;
        const SERIALIZE: bool = false;
        const COPY: bool = false;
    }

    impl<T> Cannot for Can<T> {}

    impl<T: Display> Can<T> {
        const PRINT: bool = true;
    }

    impl<T: Debug> Can<T> {
        const SHOW: bool = true;
    }

    impl<T: Serialize> Can<T> {
        const SERIALIZE: bool = true;
    }

    impl<T: Clone> Can<T> {
        const COPY: bool = true;
    }

    #[test]
    fn a_secret_cannot_be_printed_shown_serialized_or_copied() {
        let of_text = [
            Can::<String>::PRINT,
            Can::<String>::SHOW,
            Can::<String>::SERIALIZE,
            Can::<String>::COPY,
        ];
        assert_eq!(of_text, [true; 4], "the test can tell");
        let of_secrets = [
            Can::<Secret>::PRINT,
            Can::<Secret>::SHOW,
            Can::<Secret>::SERIALIZE,
            Can::<Secret>::COPY,
        ];
        assert_eq!(of_secrets, [false; 4]);
    }

    #[test]
    fn a_secret_is_kept_out_from_the_moment_it_is_there() {
        let secret = Secret::new("canary-of-the-moment-it-is-there".to_owned());
        assert_eq!(redact(secret.expose()), REDACTED);
        assert!(holds_credential(secret.expose().as_bytes()));
        let same = Secret::new("canary-of-the-moment-it-is-there".to_owned());
        assert!(Arc::ptr_eq(&secret.0, &same.0), "equal ones are one");
        assert!(Arc::ptr_eq(&secret.0, &secret.share().0));
    }

    #[test]
    fn an_inherited_value_is_kept_out_and_is_no_credential_of_ours() {
        inherit(" \tcanary-1nh3r1t\n");
        assert_eq!(redact("=canary-1nh3r1t;"), "=[REDACTED];");
        assert!(!holds_credential(b"canary-1nh3r1t"));
    }

    #[test]
    fn a_secret_that_is_held_is_remembered_however_many_come_after_it() {
        let value = "canary-of-the-oldest-secret";
        // First known while it is read, then held by whoever uses it.
        drop(Secret::new(value.to_owned()));
        let _held = Secret::new(value.to_owned());
        for n in 0..2 * SECRETS_MAX {
            drop(Secret::new(format!("another-secret-of-the-test-{n:08}")));
        }
        assert_eq!(redact(value), REDACTED);
    }

    #[test]
    fn there_is_room_for_so_many_and_for_so_much() {
        let value = |text: &str| Arc::new(SecretString::from(text));
        let check = |lens: &[usize], held: &[usize], max, n_bytes, want: &[usize]| {
            let mut values = Values::new();
            let mut holders = Vec::new();
            for (n, len) in lens.iter().enumerate() {
                values.push_back(value(&n.to_string().repeat(*len)));
                if held.contains(&n) {
                    holders.push(Arc::clone(&values[n]));
                }
            }
            make_room(&mut values, max, n_bytes);
            let left = values.iter().map(|left| left.expose_secret()[..1].parse().unwrap());
            assert_eq!(left.collect::<Vec<usize>>(), want, "{lens:?} {held:?} {max} {n_bytes}");
        };
        check(&[8, 8], &[], 3, 8, &[0, 1]);
        check(&[8, 8, 8], &[], 3, 8, &[1, 2]);
        check(&[8, 8, 8], &[0, 1], 3, 8, &[0, 1]);
        check(&[8, 8, 8], &[0, 1, 2], 3, 8, &[1, 2]);
        check(&[VALUES_BYTES_MAX / 2; 2], &[], 3, 1, &[1]);
        check(&[8, 8], &[0, 1], 3, VALUES_BYTES_MAX, &[]);
    }
}
