//! Which values of the environment are secrets.

/// The secrets among the variables of an environment: values, or parts of them.
pub fn secrets<'a>(vars: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<&'a str> {
    let is_secret =
        |name: &str| matches!(name, "EASM_CLIENT_SECRET" | "CLIENT_SECRET" | "IDENTITY_HEADER");
    vars.filter(|(name, _)| is_secret(name)).map(|(_, value)| value).collect()
}
