//! What a host's image must have to run a binary: of a static one, nothing but the kernel.
//!
//! The image that runs custom handlers is not documented, and its C library was as old as glibc 2.31.
//! So the binary brings its own, and this looks whether it does: no loader is asked for (`PT_INTERP`)
//! and no library (`DT_NEEDED`). Offsets are those of `elf(5)`.

const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;

/// Most program headers that are looked at. A binary has about a dozen.
const HEADERS_MAX: u64 = 1000;

/// The number that ELF has for the processor of the target `triple`, if it is one that is packaged.
pub fn machine(triple: &str) -> Option<u64> {
    match triple {
        "x86_64-unknown-linux-gnu" => Some(62),
        "aarch64-unknown-linux-gnu" => Some(183),
        _ => None,
    }
}

/// Checks that `binary` is a program for `machine` that needs nothing of the image it runs on.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub fn check_static(binary: &[u8], machine: u64) -> Result<(), String> {
    // Magic number, 64 bits, little-endian.
    if !binary.starts_with(b"\x7fELF\x02\x01") {
        return Err("is not a 64-bit Linux program".to_owned());
    }
    let file = Numbers(binary);
    if file.at(18, 2)? != machine {
        return Err("is made for another processor".to_owned());
    }
    let (table, size, n_headers) = (file.at(32, 8)?, file.at(54, 2)?, file.at(56, 2)?);
    if n_headers > HEADERS_MAX {
        return Err(format!("has more than {HEADERS_MAX} program headers"));
    }
    for at in (0..n_headers).map(|n| table.saturating_add(n * size)) {
        match file.at(at, 4)? {
            PT_INTERP => return Err("needs the loader and the C library of the image".to_owned()),
            PT_DYNAMIC => {
                let (begin, bytes) = (file.at(at + 8, 8)?, file.at(at + 32, 8)?);
                check_needs_nothing(&file, begin, bytes)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Looks through the dynamic section, `bytes` long from `begin` on: pairs of 8 bytes.
fn check_needs_nothing(file: &Numbers, begin: u64, bytes: u64) -> Result<(), String> {
    // Reading beyond the file fails, so a length that is made up ends the loop too.
    for n in 0..bytes / 16 {
        match file.at(begin.saturating_add(n * 16), 8)? {
            DT_NULL => return Ok(()),
            DT_NEEDED => return Err("needs a shared library".to_owned()),
            _ => {}
        }
    }
    Ok(())
}

/// Bytes to read little-endian numbers from.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    /// The number of `size` bytes at `offset`.
    fn at(&self, offset: u64, size: u64) -> Result<u64, String> {
        let begin = usize::try_from(offset).ok();
        let end = usize::try_from(offset.saturating_add(size)).ok();
        let bytes = begin.zip(end).and_then(|(begin, end)| self.0.get(begin..end));
        let bytes = bytes.ok_or("ends too early")?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program for x86-64 with these program headers, type and bytes each, in a row.
    fn program(headers: &[(u8, &[u64])]) -> Vec<u8> {
        let mut file = vec![0; 64 + 56 * headers.len()];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18] = 62;
        (file[32], file[54]) = (64, 56);
        file[56] = u8::try_from(headers.len()).expect("few");
        for (n, (kind, content)) in headers.iter().enumerate() {
            let (begin, bytes) = (file.len() as u64, 8 * content.len() as u64);
            let header = 64 + 56 * n;
            file[header] = *kind;
            file[header + 8..header + 16].copy_from_slice(&begin.to_le_bytes());
            file[header + 32..header + 40].copy_from_slice(&bytes.to_le_bytes());
            file.extend(content.iter().flat_map(|number| number.to_le_bytes()));
        }
        file
    }

    #[test]
    fn a_program_that_needs_something_of_the_image_is_found_out() {
        let check = |file: &[u8], want: &str| {
            let found = check_static(file, 62).err().unwrap_or_default();
            assert_eq!(found, want);
        };
        check(&program(&[]), "");
        // A static one that is loaded anywhere has a dynamic section, and nothing in it is needed.
        check(&program(&[(1, &[]), (2, &[5, 1, 6, 2, 0, 0, 1, 9])]), "");
        check(&program(&[(1, &[]), (2, &[5, 1, 1, 2, 0, 0])]), "needs a shared library");
        let loader = "needs the loader and the C library of the image";
        check(&program(&[(3, &[])]), loader);
        check(b"#!/bin/sh\n", "is not a 64-bit Linux program");
        check(&program(&[])[..40], "ends too early");
        check(&program(&[(1, &[])])[..66], "ends too early");
        let mut arm = program(&[]);
        arm[18] = 183;
        check(&arm, "is made for another processor");
        let mut many = program(&[]);
        (many[56], many[57]) = (0xff, 0xff);
        check(&many, "has more than 1000 program headers");
    }

    /// A program as cargo makes them without being told, which is linked with shared libraries.
    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
    fn this_very_test_is_found_out() {
        let file = std::fs::read(std::env::current_exe().expect("a path")).expect("a file");
        let machine = u64::from(file[18]);
        assert!(check_static(&file, machine).is_err());
    }
}
