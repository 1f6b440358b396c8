//! What a container's process sees: a root of its own with the machine's libraries, its program, its volumes; the pod's
//! network and host name; the user and the privileges of its security context.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use k8s_openapi::api::core::v1::Container;
use tokio::process::{Child, Command};

use super::environment::{expand, variables};
use super::hosts;
use super::pod::Running;
use super::volumes::Volumes;
use crate::network::{PodNetwork, ip_program};

/// A container that can be started, as often as needed.
#[derive(Debug)]
pub(super) struct Launch {
    network: Option<String>,
    script: PathBuf,
    arguments: Vec<String>,
    variables: BTreeMap<String, String>,
    log: PathBuf,
}

impl Launch {
    /// Prepares a container of a pod.
    ///
    /// # Errors
    /// Where it asks for what is not there, or what this kubelet cannot do.
    pub(super) async fn new(
        pod: &Running,
        container: &Container,
        volumes: &Volumes,
        network: Option<&PodNetwork>,
        address: Ipv4Addr,
    ) -> Result<Self, String> {
        let (image, program) = program(pod, container)?;
        let variables = variables(pod, container, address).await?;
        let entry = container.command.clone().unwrap_or_else(|| vec![image.clone()]);
        let words = entry.iter().chain(container.args.iter().flatten());
        let arguments = words.map(|word| expand(word, &variables)).collect();

        let dir = volumes.dir().join("containers").join(&container.name);
        let root = dir.join("root");
        std::fs::create_dir_all(&root).map_err(|error| error.to_string())?;
        let mut script = Script::new(&root);
        script.system(&hosts::etc(&pod.shared, &pod.namespace));
        script.bind_file(program, &image);
        for mount in container.volume_mounts.iter().flatten() {
            if mount.sub_path.is_some() || mount.sub_path_expr.is_some() {
                return Err("subPath is not supported by this kubelet".to_owned());
            }
            let source = volumes.path(&mount.name).ok_or_else(|| format!("no volume {}", mount.name))?;
            script.bind(
                &source,
                &mount.mount_path,
                mount.read_only == Some(true) || volumes.is_read_only(&mount.name),
            );
        }
        script.enter(pod, container)?;
        let path = dir.join("run.sh");
        std::fs::write(&path, script.text).map_err(|error| error.to_string())?;

        let logs = pod.shared.dir.join("logs").join(&pod.namespace).join(&pod.name);
        std::fs::create_dir_all(&logs).map_err(|error| error.to_string())?;
        Ok(Self {
            network: network.map(|network| network.name().to_owned()),
            script: path,
            arguments,
            variables,
            log: logs.join(format!("{}.log", container.name)),
        })
    }

    /// Starts the process. It is the container's own, with its process id: everything before it ends in an exec.
    pub(super) fn start(&self) -> std::io::Result<Child> {
        let log = self.open_log()?;
        let unshare = ["unshare", "--mount", "--uts", "sh"];
        let mut command = match &self.network {
            Some(network) => {
                let mut command = Command::new(ip_program());
                command.args(["netns", "exec", network]).args(unshare);
                command
            }
            None => {
                let mut command = Command::new(unshare[0]);
                command.args(&unshare[1..]);
                command
            }
        };
        command.arg(&self.script).args(&self.arguments);
        command.env_clear().envs(&self.variables);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true).spawn()
    }

    /// Writes a line into the container's log.
    pub(super) fn note(&self, line: &str) {
        if let Ok(mut log) = self.open_log() {
            let _ = writeln!(log, "{line}");
        }
    }

    fn open_log(&self) -> std::io::Result<File> {
        File::options().create(true).append(true).open(&self.log)
    }
}

/// The path of the image's program within the container, and on this machine.
fn program<'a>(pod: &'a Running, container: &Container) -> Result<(String, &'a Path), String> {
    let image = container.image.as_deref().unwrap_or_default();
    let name = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    };
    let program = pod.shared.images.get(name).ok_or_else(|| format!("no program for image {image}"))?;
    Ok((format!("/{}", name.rsplit('/').next().unwrap_or(name)), program))
}

/// A shell script that makes the container's root and becomes its process. It runs in a mount namespace of its own.
struct Script {
    root: PathBuf,
    text: String,
}

impl Script {
    fn new(root: &Path) -> Self {
        let mut script = Self { root: root.to_owned(), text: "set -e\n".to_owned() };
        script.line(&format!("mount -t tmpfs -o mode=0755 promring {}", quoted(root)));
        script
    }

    fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "{line}");
    }

    /// The directories that every program needs.
    fn system(&mut self, etc: &Path) {
        for name in ["usr", "lib", "lib32", "lib64", "bin", "sbin"] {
            let path = Path::new("/").join(name);
            if path.is_symlink() {
                self.line(&format!("cp -P {} {}/", quoted(&path), quoted(&self.root)));
            } else if path.is_dir() {
                self.bind(&path, &format!("/{name}"), true);
            }
        }
        for name in ["/proc", "/dev"] {
            self.bind(Path::new(name), name, false);
        }
        self.bind(etc, "/etc", false);
        // The certificate authorities of the system.
        self.bind(Path::new("/etc/ssl"), "/etc/ssl", true);
    }

    fn bind(&mut self, source: &Path, target: &str, read_only: bool) {
        let target = quoted(&self.root.join(target.trim_start_matches('/')));
        let option = if read_only { "-o ro " } else { "" };
        self.line(&format!("mkdir -p {target}"));
        self.line(&format!("mount --bind {option}{} {target}", quoted(source)));
    }

    fn bind_file(&mut self, source: &Path, target: &str) {
        let target = quoted(&self.root.join(target.trim_start_matches('/')));
        self.line(&format!("touch {target}"));
        self.line(&format!("mount --bind -o ro {} {target}", quoted(source)));
    }

    /// The last steps: host name, read-only root, user and privileges, and the program itself.
    fn enter(&mut self, pod: &Running, container: &Container) -> Result<(), String> {
        let own = container.security_context.clone().unwrap_or_default();
        let common = pod.spec.security_context.clone().unwrap_or_default();
        let user = own.run_as_user.or(common.run_as_user).unwrap_or(0);
        let group = own.run_as_group.or(common.run_as_group).unwrap_or(0);
        if own.run_as_non_root.or(common.run_as_non_root) == Some(true) && user == 0 {
            return Err("container has runAsNonRoot and image will run as root".to_owned());
        }
        let root = quoted(&self.root);
        self.line(&format!("echo {} > /proc/sys/kernel/hostname", quoted(Path::new(&pod.name))));
        if own.read_only_root_filesystem == Some(true) {
            self.line(&format!("mount -o remount,ro {root}"));
        }
        let mut words =
            format!("exec chroot {root} /usr/bin/setpriv --pdeathsig KILL --reuid {user} --regid {group}");
        let groups: Vec<String> = common
            .supplemental_groups
            .iter()
            .flatten()
            .chain(&common.fs_group)
            .map(ToString::to_string)
            .collect();
        words += &if groups.is_empty() {
            " --clear-groups".to_owned()
        } else {
            format!(" --groups {}", groups.join(","))
        };
        let dropped = own.capabilities.and_then(|capabilities| capabilities.drop).unwrap_or_default();
        if dropped.iter().any(|name| name == "ALL") {
            words += " --bounding-set=-all --inh-caps=-all";
        }
        if own.allow_privilege_escalation == Some(false) {
            words += " --no-new-privs";
        }
        self.line(&format!("{words} -- \"$@\""));
        Ok(())
    }
}

/// As the shell reads it back.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
