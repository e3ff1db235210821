//! Base64 by the character: which bits a character says, in either alphabet.
//!
//! Decoding whole texts would not do: a secret in base64 may begin at any bit of a longer one.

/// The standard alphabet (RFC 4648, section 4).
const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What [`SEXTETS`] has for a byte that is in no alphabet.
pub const NONE: u8 = 64;

/// The six bits that a character stands for, in the standard or the URL-safe alphabet.
pub static SEXTETS: [u8; 256] = sextets();

const fn sextets() -> [u8; 256] {
    let mut table = [NONE; 256];
    let mut six: u8 = 0;
    while six < 64 {
        table[STANDARD[six as usize] as usize] = six;
        six += 1;
    }
    table[b'-' as usize] = 62;
    table[b'_' as usize] = 63;
    table
}

/// Whether `byte` is a character of either alphabet.
pub fn is_character(byte: u8) -> bool {
    SEXTETS[usize::from(byte)] != NONE
}

/// The six bits of `bytes` from `bit` on; behind the end they are zero, as base64 has it.
pub fn sextet(bytes: &[u8], bit: usize) -> u8 {
    let at = |n: usize| u16::from(bytes.get(n).copied().unwrap_or(0));
    let two = at(bit / 8) << 8 | at(bit / 8 + 1);
    (two >> (10 - bit % 8) & 63).to_le_bytes()[0]
}

/// The eight characters that six bytes are where a group of characters begins with the first.
pub fn spell(six: &[u8; 6]) -> [u8; 8] {
    let bits = six.iter().fold(0, |bits: u64, byte| bits << 8 | u64::from(*byte));
    std::array::from_fn(|n| STANDARD[usize::from((bits >> (42 - 6 * n) & 63).to_le_bytes()[0])])
}

/// `characters` in the URL-safe alphabet.
pub fn url_safe(characters: [u8; 8]) -> [u8; 8] {
    characters.map(|c| match c {
        b'+' => b'-',
        b'/' => b'_',
        c => c,
    })
}

/// The bytes of `characters`, all of an alphabet, from where a group begins. A rest that makes no byte
/// is left out.
pub fn decode(characters: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(characters.len() / 4 * 3 + 3);
    let (mut bits, mut n_bits) = (0_u32, 0);
    for c in characters {
        bits = bits << 6 | u32::from(SEXTETS[usize::from(*c)] & 63);
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            bytes.push((bits >> n_bits).to_le_bytes()[0]);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

    #[test]
    fn it_spells_and_decodes_as_others_do() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let bytes: Vec<u8> = (0..rng.usize(..40)).map(|_| rng.u8(..)).collect();
            for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
                assert_eq!(decode(engine.encode(&bytes).as_bytes()), bytes);
            }
            if let Some(six) = bytes.first_chunk() {
                assert_eq!(STANDARD_NO_PAD.encode(six).as_bytes(), spell(six));
                assert_eq!(URL_SAFE_NO_PAD.encode(six).as_bytes(), url_safe(spell(six)));
            }
        }
    }
}
