package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// The resource that NVIDIA's own device plugin offers.
const gpuResource = "nvidia.com/gpu"

// fakeDevicePlugin offers GPUs that do not exist to the kubelet of this machine, by the protocol and under the resource name
// of the real plugin: `fake-device-plugin FOLDER GPU-uuid...`, FOLDER being the kubelet's device-plugins folder. It registers
// again whenever the kubelet restarts, as the protocol asks, and ends when it is killed.
func fakeDevicePlugin(args []string) {
	if len(args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: fake-device-plugin FOLDER GPU-uuid...")
		os.Exit(2)
	}
	folder, ids := args[1], args[2:]
	for {
		if err := offer(folder, ids); err != nil {
			fmt.Fprintln(os.Stderr, "fake-device-plugin:", err)
			time.Sleep(500 * time.Millisecond)
		}
	}
}

// offer serves and registers once, and returns when the kubelet has removed the socket, which it does when it starts.
func offer(folder string, ids []string) error {
	const name = "fake-gpu.sock"
	socket := filepath.Join(folder, name)
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	defer server.Stop()
	deviceplugin.RegisterDevicePluginServer(server, &gpus{ids: ids})
	go func() { _ = server.Serve(listener) }()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	kubelet, err := grpc.NewClient("unix://"+filepath.Join(folder, "kubelet.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = kubelet.Close() }()
	request := &deviceplugin.RegisterRequest{Version: deviceplugin.Version, Endpoint: name, ResourceName: gpuResource}
	if _, err := deviceplugin.NewRegistrationClient(kubelet).Register(ctx, request); err != nil {
		return fmt.Errorf("failed to register: %w", err)
	}
	fmt.Println("registered", strings.Join(ids, " "))
	for {
		if _, err := os.Stat(socket); err != nil {
			return errors.New("the kubelet removed the socket: it restarted")
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// gpus is the plugin's service.
type gpus struct {
	deviceplugin.UnimplementedDevicePluginServer
	ids []string
}

func (g *gpus) GetDevicePluginOptions(context.Context, *deviceplugin.Empty) (*deviceplugin.DevicePluginOptions, error) {
	return &deviceplugin.DevicePluginOptions{}, nil
}

func (g *gpus) ListAndWatch(_ *deviceplugin.Empty, stream deviceplugin.DevicePlugin_ListAndWatchServer) error {
	devices := make([]*deviceplugin.Device, 0, len(g.ids))
	for _, id := range g.ids {
		devices = append(devices, &deviceplugin.Device{ID: id, Health: deviceplugin.Healthy})
	}
	if err := stream.Send(&deviceplugin.ListAndWatchResponse{Devices: devices}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

// Allocate answers as the real plugin does with its default strategy: the runtime reads the variable.
func (g *gpus) Allocate(_ context.Context, request *deviceplugin.AllocateRequest) (*deviceplugin.AllocateResponse, error) {
	response := &deviceplugin.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		ids := strings.Join(container.DevicesIds, ",")
		response.ContainerResponses = append(response.ContainerResponses,
			&deviceplugin.ContainerAllocateResponse{Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": ids}})
	}
	return response, nil
}
