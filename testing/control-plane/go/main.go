// One binary for every Kubernetes part that the tests start. The first argument, or the name the binary is called by,
// picks the part. A single program links the shared packages once instead of once a part.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// parts maps each name to what runs it. Each function gets os.Args, whose first entry is the name.
var parts = map[string]func(args []string){
	"etcd":                    etcdmain.Main,
	"kube-apiserver":          func([]string) { os.Exit(cli.Run(apiserver.NewAPIServerCommand())) },
	"kube-controller-manager": func([]string) { os.Exit(cli.Run(kcm.NewControllerManagerCommand())) },
	"kube-scheduler":          func([]string) { os.Exit(cli.Run(scheduler.NewSchedulerCommand())) },
	"kubelet":                 func([]string) { os.Exit(cli.Run(kubelet.NewKubeletCommand(context.Background()))) },
	"kube-proxy":              func([]string) { os.Exit(cli.Run(proxy.NewProxyCommand())) },
	"fake-device-plugin":      fakeDevicePlugin,
	"kubectl":                 func([]string) { os.Exit(cli.Run(kubectl.NewDefaultKubectlCommand())) },
}

func main() {
	if run, ok := parts[filepath.Base(os.Args[0])]; ok {
		run(os.Args)
		return
	}
	if len(os.Args) > 1 {
		if run, ok := parts[os.Args[1]]; ok {
			os.Args = os.Args[1:]
			run(os.Args)
			return
		}
	}
	names := make([]string, 0, len(parts))
	for name := range parts {
		names = append(names, name)
	}
	slices.Sort(names)
	fmt.Fprintf(os.Stderr, "usage: control-plane %s\n", strings.Join(names, "|"))
	os.Exit(2)
}
