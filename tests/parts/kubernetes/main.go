// The control plane of a Kubernetes cluster as one program: etcd, kube-apiserver, kube-controller-manager,
// kube-scheduler and kubectl, chosen by the first argument. One program, because they share nearly all of their code:
// built apart they would take the build's time and the disk four times.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

var commands = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllermanager.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
}

func main() {
	// A link by one of the names works too: Helm and people call kubectl so.
	if name := filepath.Base(os.Args[0]); commands[name] != nil {
		run(commands[name])
	}
	if len(os.Args) < 2 {
		fail("say which part: etcd, kube-apiserver, kube-controller-manager, kube-scheduler or kubectl")
	}
	part := os.Args[1]
	os.Args = os.Args[1:]
	if part == "etcd" {
		etcdmain.Main(os.Args)
		return
	}
	command, known := commands[part]
	if !known {
		fail("no such part: " + part)
	}
	run(command)
}

func run(command func() *cobra.Command) {
	os.Exit(cli.Run(command()))
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(2)
}
