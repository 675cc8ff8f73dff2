// SPDX-License-Identifier: Apache-2.0

// gpu-plugin offers GPUs that do not exist, so that scheduling by nvidia.com/gpu can be tried on a machine without one.
// It speaks the kubelet's device plugin API (v1beta1) and gives a container the ids it was allotted in NVIDIA_VISIBLE_DEVICES.
// It is no driver: nothing can be computed on these devices.
//
// usage: gpu-plugin FILE    FILE holds the number of GPUs and may change at any time.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	resource = "nvidia.com/gpu"
	endpoint = "sandbox-gpu.sock"
	poll     = 500 * time.Millisecond
)

type plugin struct {
	api.UnimplementedDevicePluginServer
	file string
}

// count is 0 when the file is missing or holds no number.
func (p plugin) count() int {
	text, err := os.ReadFile(p.file)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		log.Printf("%s: not a number: %q", p.file, text)
		return 0
	}
	return n
}

func (p plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

func (p plugin) ListAndWatch(_ *api.Empty, stream grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	for sent := -1; ; time.Sleep(poll) {
		if stream.Context().Err() != nil {
			return nil
		}
		n := p.count()
		if n == sent {
			continue
		}
		devices := make([]*api.Device, n)
		for i := range devices {
			devices[i] = &api.Device{ID: fmt.Sprintf("GPU-%d", i), Health: api.Healthy}
		}
		if err := stream.Send(&api.ListAndWatchResponse{Devices: devices}); err != nil {
			return err
		}
		sent = n
		log.Printf("%d devices", n)
	}
}

func (p plugin) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	response := &api.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		ids := strings.Join(container.DevicesIds, ",")
		response.ContainerResponses = append(response.ContainerResponses,
			&api.ContainerAllocateResponse{Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": ids}})
	}
	return response, nil
}

// serve registers with the kubelet and returns when it has to be done again: a kubelet that starts removes
// every plugin's socket and makes a new one of its own.
func (p plugin) serve() error {
	kubelet, err := os.Stat(api.KubeletSocket)
	if err != nil {
		return err
	}
	socket := filepath.Join(api.DevicePluginPath, endpoint)
	os.Remove(socket)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	api.RegisterDevicePluginServer(server, p)
	go server.Serve(listener)
	defer server.Stop()

	connection, err := grpc.NewClient("unix://"+api.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err = api.NewRegistrationClient(connection).Register(ctx,
		&api.RegisterRequest{Version: api.Version, Endpoint: endpoint, ResourceName: resource})
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	for {
		time.Sleep(poll)
		now, err := os.Stat(api.KubeletSocket)
		if err != nil || !os.SameFile(kubelet, now) {
			return fmt.Errorf("the kubelet started anew")
		}
		if _, err := os.Stat(socket); err != nil {
			return fmt.Errorf("the plugin's socket is gone")
		}
	}
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: gpu-plugin FILE")
	}
	p := plugin{file: os.Args[1]}
	for ; ; time.Sleep(poll) {
		if p.count() == 0 {
			continue
		}
		log.Print(p.serve())
	}
}
