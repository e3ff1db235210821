//! `cargo xtask package` as an operator runs it, with a stand-in for the binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use zip::{System, ZipArchive};

/// What a package holds beside the binary, from the repository's root.
const OWN: [(&str, &str); 8] = [
    ("host.json", "host.json"),
    ("Assets/function.json", "functions/Assets/function.json"),
    ("ExportTimer/function.json", "functions/ExportTimer/function.json"),
    ("ExportWorker/function.json", "functions/ExportWorker/function.json"),
    ("Exports/function.json", "functions/Exports/function.json"),
    ("Health/function.json", "functions/Health/function.json"),
    ("Maintenance/function.json", "functions/Maintenance/function.json"),
    ("OpenApi/function.json", "functions/OpenApi/function.json"),
];

const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;

/// Mode and content by path.
type Files = BTreeMap<String, (u32, Vec<u8>)>;

/// The smallest program that passes for one: static, for x86-64, with nothing in it.
fn stand_in() -> Vec<u8> {
    let mut program = vec![0; 64];
    program[..6].copy_from_slice(b"\x7fELF\x02\x01");
    program[18] = 62;
    program
}

/// A folder to work in, with a stand-in for the binary.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        desk.put("stand-in", &stand_in());
        desk
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Exit code and stderr of `xtask` with `args`.
    fn xtask(&self, args: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        let output = command.args(args).current_dir(self.folder.path()).output().unwrap();
        assert!(output.stdout.is_empty());
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    /// Packages the stand-in with `args`, which must work.
    #[track_caller]
    fn package(&self, args: &[&str]) {
        let (code, stderr) = self.xtask(&[&["package", "--binary", "stand-in"], args].concat());
        assert_eq!(code, 0, "{stderr}");
    }

    fn folder(&self) -> Files {
        let mut files = Files::new();
        read_folder(&self.folder.path().join("dist/easm-export"), "", &mut files);
        files
    }

    fn zip(&self) -> Vec<u8> {
        fs::read(self.folder.path().join("dist/easm-export.zip")).unwrap()
    }
}

fn read_folder(folder: &Path, prefix: &str, files: &mut Files) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
        match entry.file_type().unwrap().is_dir() {
            true => read_folder(&entry.path(), &format!("{name}/"), files),
            false => {
                drop(files.insert(name, (mode(&entry.path()), fs::read(entry.path()).unwrap())))
            }
        }
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode()
}

fn read_zip(zip: Vec<u8>) -> Files {
    let mut archive = ZipArchive::new(Cursor::new(zip)).unwrap();
    let files = (0..archive.len()).map(|n| {
        let mut entry = archive.by_index(n).unwrap();
        assert_eq!(entry.system(), System::Unix, "modes count in what Unix made only");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.name().unwrap().into_owned(), (entry.unix_mode().unwrap(), bytes))
    });
    files.collect()
}

/// A package with the stand-in and `more`, as it should be.
fn wanted(more: &[(&str, &str)]) -> Files {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let own = OWN.map(|(name, path)| (name.to_owned(), (FILE, fs::read(root.join(path)).unwrap())));
    let more = more.iter().map(|&(name, text)| (name.to_owned(), (FILE, text.into())));
    let mut files: Files = own.into_iter().chain(more).collect();
    files.insert("easm-export".to_owned(), (PROGRAM, stand_in()));
    files
}

#[track_caller]
fn assert_same(found: &Files, wanted: &Files) {
    let names = |files: &Files| {
        files.iter().map(|(name, (mode, _))| format!("{name} {mode:o}")).collect::<Vec<_>>()
    };
    assert_eq!(names(found), names(wanted));
    assert!(found == wanted, "a file has other content");
}

#[test]
fn folder_and_zip_hold_what_a_host_needs_and_nothing_else() {
    let desk = Desk::new();
    desk.package(&[]);
    assert_same(&desk.folder(), &wanted(&[]));
    assert_same(&read_zip(desk.zip()), &wanted(&[]));
}

#[test]
fn what_is_included_lies_where_it_lay() {
    let desk = Desk::new();
    desk.put("targets.json", b"[]");
    desk.put("filters/hosts.txt", b"kind = \"host\"");
    desk.put("filters/more/all.txt", b"#");
    desk.put("filters-not/named.txt", b"");
    desk.put("deep/down/one.txt", b"1");
    desk.put("deep/down/two.txt", b"2");
    let include =
        ["--include", "./targets.json", "--include", "filters", "--include", "deep/down/one.txt"];
    desk.package(&include);
    let wanted = wanted(&[
        ("targets.json", "[]"),
        ("filters/hosts.txt", "kind = \"host\""),
        ("filters/more/all.txt", "#"),
        ("deep/down/one.txt", "1"),
    ]);
    assert_same(&desk.folder(), &wanted);
    assert_same(&read_zip(desk.zip()), &wanted);
}

#[test]
fn behind_the_platforms_authentication_http_functions_demand_no_key_and_all_else_is_the_same() {
    let desk = Desk::new();
    desk.package(&["--auth", "entra"]);
    let mut open = wanted(&[]);
    for function in ["Assets", "Exports", "OpenApi"] {
        let (_, bytes) = open.get_mut(&format!("{function}/function.json")).unwrap();
        let text = str::from_utf8(bytes).unwrap();
        assert_eq!(text.matches("\"authLevel\": \"function\"").count(), 1, "{function}");
        *bytes = text.replace("\"function\"", "\"anonymous\"").into();
    }
    assert_same(&desk.folder(), &open);
    assert_same(&read_zip(desk.zip()), &open);
    desk.package(&["--auth", "key"]);
    assert_same(&desk.folder(), &wanted(&[]));
}

#[test]
fn the_same_inputs_make_the_same_zip() {
    let one = Desk::new();
    let other = Desk::new();
    // Written in another order, at another time, with other modes.
    one.put("a/1", b"1");
    one.put("a/2", b"2");
    other.put("a/2", b"2");
    other.put("a/1", b"1");
    let program = other.folder.path().join("a/1");
    let mut permissions = fs::metadata(&program).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o777);
    fs::set_permissions(&program, permissions).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1 << 30);
    fs::File::options().write(true).open(&program).unwrap().set_modified(old).unwrap();
    one.package(&["--include", "a"]);
    other.package(&["--include", "a"]);
    assert!(one.zip() == other.zip());
}

#[test]
fn of_an_earlier_package_only_local_settings_stay() {
    let desk = Desk::new();
    desk.put("extra.txt", b"");
    desk.package(&["--include", "extra.txt"]);
    desk.put("dist/easm-export/local.settings.json", b"{}");
    desk.put("dist/easm-export/Risks/function.json", b"{}");
    desk.package(&[]);
    assert_same(&read_zip(desk.zip()), &wanted(&[]));
    let mut folder = desk.folder();
    assert_eq!(folder.remove("local.settings.json").unwrap().1, b"{}");
    assert_same(&folder, &wanted(&[]));
}

#[test]
fn what_may_not_be_included_is_refused_before_anything_is_written() {
    let desk = Desk::new();
    for path in [
        "targets.json",
        "local.settings.json",
        "conf/Local.Settings.json",
        "secret/.env",
        "secret2/.env.production",
        "host.json",
        "EASM-EXPORT",
        "health/note.txt",
        "Risks/function.json",
    ] {
        desk.put(path, b"{}");
    }
    desk.put("exports/large", &vec![0; (4 << 20) + 1]);
    fs::create_dir(desk.folder.path().join("empty")).unwrap();
    for n in 0..=1000 {
        desk.put(&format!("many/{n}"), b"");
    }
    std::os::unix::fs::symlink("/etc", desk.folder.path().join("link")).unwrap();
    let check = |path: &str, want: &str| {
        let args = ["package", "--binary", "stand-in", "--include", "targets.json"];
        let (code, stderr) = desk.xtask(&[&args[..], &["--include", path]].concat());
        assert_eq!(code, 2, "{path}: {stderr}");
        assert!(stderr.contains(want) && stderr.lines().count() == 1, "{path}: {stderr}");
        assert!(!desk.folder.path().join("dist").exists(), "{path}: something was written");
    };
    check("missing.json", "missing.json: entity not found");
    check("../outside", "lies outside");
    check("a/../../b", "lies outside");
    check("/etc/hostname", "lies outside");
    check(".", "is the current folder");
    check("link", "neither a file nor a folder");
    check("link/hostname", "neither a file nor a folder");
    check("empty", "without a file");
    check("local.settings.json", "secrets of one machine");
    check("conf", "conf/Local.Settings.json: it has the settings and secrets");
    check("secret", "secret/.env: it has the settings and secrets");
    check("secret2/.env.production", "secrets of one machine");
    check("host.json", "the package has that name itself");
    check("EASM-EXPORT", "the package has that name itself");
    check("health", "the package has that name itself");
    check("Risks", "would be a function");
    check("exports", "4194304 bytes");
    check("many", "1000 files");
}

#[test]
fn what_cannot_run_on_a_host_is_refused() {
    let desk = Desk::new();
    desk.put("script", b"#!/bin/sh\n");
    desk.put("other/easm-export/mine.txt", b"");
    let check = |args: &[&str], want_code: i32, want: &str| {
        let (code, stderr) = desk.xtask(&[&["package"], args].concat());
        assert_eq!(code, want_code, "{args:?}: {stderr}");
        assert!(stderr.contains(want) && stderr.lines().count() == 1, "{args:?}: {stderr}");
    };
    check(&["--binary", "script"], 1, "script is not a 64-bit Linux program; package one");
    check(&["--binary", "/dev/zero"], 1, "/dev/zero is no file of at most");
    check(&["--binary", "missing"], 1, "read missing: entity not found");
    let arm = ["--binary", "stand-in", "--target", "aarch64-unknown-linux-gnu"];
    check(&arm, 1, "is made for another processor");
    let test = std::env::current_exe().unwrap();
    check(&["--binary", test.to_str().unwrap()], 1, "; package one that is linked statically");
    check(&["--target", "x86_64-pc-windows-msvc"], 2, "use x86_64-unknown-linux-gnu");
    check(&["--binary", "stand-in", "--out", "other"], 2, "is there and is no package");
    assert!(desk.folder.path().join("other/easm-export/mine.txt").exists());
    assert!(!desk.folder.path().join("dist").exists());
}
