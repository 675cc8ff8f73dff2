// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	resultVersion = 1
	messagePrefix = "sandbox1:"
	messageBytes  = 3584
	digestLimit   = 1 << 30
)

var exitCodes = map[string]int{"User": 1, "Config": 2, "Input": 3, "Infra": 4, "Preempted": 143, "Timeout": 1}

// Attempt is one run of one job in one pod: where it works, and what it has read.
type Attempt struct {
	contract     *Contract
	workspace    string // the volume's root
	inputsFolder string
	experiment   string // where relative paths start
	folder       string // this pod's own: no two pods ever write in one
	podUID       string
	began        time.Time
	inputs       map[string]Input  // by target
	externals    map[string]string // digests of files that no job made, by their path in the settings
}

// Done is what the work gives back when it succeeds.
type Done struct {
	Outputs []Output // in the order of the SandboxHook's outputs
	Metrics map[string]float64
	Message string
}

// Output is a file in the attempt's folder.
type Output struct {
	Kind   string `json:"kind"`
	Path   string `json:"path"`
	SHA256 string `json:"sha256,omitempty"` // of files under 1 GiB
	Bytes  int64  `json:"bytes"`
	Rows   int64  `json:"rows"`
}

// Result is result.json, the whole truth of an attempt.
type Result struct {
	Version    int                `json:"version"`
	Job        string             `json:"job"`
	Attempt    int                `json:"attempt"`
	PodUID     string             `json:"podUid"`
	Contract   string             `json:"contract"`
	Outcome    string             `json:"outcome"`
	StartedAt  string             `json:"startedAt"`
	FinishedAt string             `json:"finishedAt"`
	CacheKey   string             `json:"cacheKey"`
	Content    string             `json:"content,omitempty"` // equal for results with equal outputs
	MetaName   string             `json:"metaName"`
	Message    string             `json:"message"`
	Outputs    map[string]Output  `json:"outputs,omitempty"`
	Metrics    map[string]float64 `json:"metrics,omitempty"`
	Error      *Failure           `json:"error,omitempty"`
	Inputs     map[string]string  `json:"inputs,omitempty"`
	Externals  map[string]string  `json:"externals,omitempty"`
	Runtime    struct {
		Image       string  `json:"image,omitempty"`
		HookSeconds float64 `json:"hookSeconds"`
	} `json:"runtime"`
}

// Message is what the operator learns without reading the volume: the container's termination message.
type Message struct {
	Version    int                `json:"version"`
	Job        string             `json:"job"`
	Attempt    int                `json:"attempt"`
	PodUID     string             `json:"podUid"`
	Contract   string             `json:"contract"`
	Path       string             `json:"path"`
	SHA256     string             `json:"sha256"`
	Bytes      int                `json:"bytes"`
	Outcome    string             `json:"outcome"`
	StartedAt  string             `json:"startedAt"`
	FinishedAt string             `json:"finishedAt"`
	Message    string             `json:"message,omitempty"`
	CacheKey   string             `json:"cacheKey,omitempty"`
	Content    string             `json:"content,omitempty"`
	Externals  int                `json:"externals,omitempty"`
	Error      *Failure           `json:"error,omitempty"`
	Outputs    map[string]string  `json:"outputs,omitempty"`
	Metrics    map[string]float64 `json:"metrics,omitempty"`
	Truncated  bool               `json:"truncated,omitempty"`
}

// Brackets of a job id are no part of its folder: exps[3]/1/execution/0 lies in exps.3/1/execution/0.
var folders = strings.NewReplacer("[", ".", "]", "")

func newAttempt(contract *Contract) *Attempt {
	workspace := environment("SANDBOX_WORKSPACE", "/workspace")
	uid := environment("SANDBOX_POD_UID", "local000")
	experiment := filepath.Join(workspace, "experiments", contract.Experiment.Name+"-"+short(contract.Experiment.UID))
	number := strconv.Itoa(contract.Attempt)
	return &Attempt{
		contract:     contract,
		workspace:    workspace,
		inputsFolder: environment("SANDBOX_INPUTS", "/inputs"),
		experiment:   experiment,
		folder:       filepath.Join(experiment, "jobs", folders.Replace(contract.Job.ID), "attempts", number, short(uid)),
		podUID:       uid,
		began:        time.Now(),
		inputs:       map[string]Input{},
		externals:    map[string]string{},
	}
}

// enter makes the attempt's folder, and the link by which settings name the read-only inputs.
func (a *Attempt) enter() error {
	if err := os.MkdirAll(a.out(), 0o777); err != nil {
		return asInfra(err)
	}
	if err := os.Symlink(a.inputsFolder, filepath.Join(a.experiment, "inputs")); !errors.Is(err, os.ErrExist) {
		return asInfra(err)
	}
	return nil
}

func (a *Attempt) out() string { return filepath.Join(a.folder, "out") }

// made turns a finished file in the attempt's folder into an output; the writer has made it durable.
func (a *Attempt) made(name string, sum []byte, bytes, rows int64) Output {
	path, _ := filepath.Rel(a.workspace, filepath.Join(a.out(), name))
	output := Output{Kind: "path", Path: path, Bytes: bytes, Rows: rows}
	if bytes < digestLimit {
		output.SHA256 = hex.EncodeToString(sum)
	}
	return output
}

func (a *Attempt) succeeded(done *Done) int {
	if len(a.contract.Outputs) > len(done.Outputs) {
		return a.failed(configError("output: %d names for %d results", len(a.contract.Outputs), len(done.Outputs)))
	}
	if err := syncFolder(a.out()); err != nil {
		return a.failed(asInfra(err))
	}
	result := a.result("Succeeded")
	result.Message, result.Outputs, result.Metrics = done.Message, map[string]Output{}, map[string]float64{}
	content := sha256.New()
	for n, name := range a.contract.Outputs {
		result.Outputs[name] = done.Outputs[n]
		fmt.Fprintf(content, "%q %s %d\n", name, done.Outputs[n].SHA256, done.Outputs[n].Bytes)
	}
	if !slices.ContainsFunc(done.Outputs, func(output Output) bool { return output.SHA256 == "" }) {
		result.Content = hex.EncodeToString(content.Sum(nil))
	}
	for name, figure := range done.Metrics {
		result.Metrics[a.contract.Job.MetaName+"."+name] = figure
	}
	return a.report(result)
}

func (a *Attempt) failed(err error) int {
	var failure *Failure
	if !errors.As(err, &failure) {
		failure = &Failure{Class: "User", Type: "Error", Message: err.Error()}
		for _, storage := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.ESTALE, syscall.EROFS} {
			if errors.Is(err, storage) {
				failure.Class = "Infra"
			}
		}
	}
	failure.Message = failure.Message[max(0, len(failure.Message)-800):]
	fmt.Fprintf(os.Stderr, "%s: %s\n", failure.Class, failure.Message)
	result := a.result("Failed")
	result.Error = failure
	return a.report(result)
}

func (a *Attempt) result(outcome string) *Result {
	result := &Result{
		Version: resultVersion, Job: a.contract.Job.ID, Attempt: a.contract.Attempt, PodUID: a.podUID,
		Contract: a.contract.digest, Outcome: outcome, StartedAt: stamp(a.began), FinishedAt: stamp(time.Now()),
		CacheKey: a.contract.CacheKey, MetaName: a.contract.Job.MetaName,
	}
	result.Runtime.Image = os.Getenv("SANDBOX_IMAGE")
	result.Runtime.HookSeconds = time.Since(a.began).Seconds()
	if outcome == "Succeeded" { // what is told of an end by order must not touch what the work still writes
		result.Externals, result.Inputs = a.externals, map[string]string{}
		for target, input := range a.inputs {
			result.Inputs[target] = input.digest
		}
	}
	return result
}

// report writes the result, then the message that names it, and gives the exit code.
func (a *Attempt) report(result *Result) int {
	path := filepath.Join(a.folder, "result.json")
	content, err := json.MarshalIndent(result, "", " ")
	if err == nil {
		err = writeAtomic(path, append(content, '\n'))
	}
	sum, size := sha256.Sum256(append(content, '\n')), len(content)+1
	digest := hex.EncodeToString(sum[:])
	if err != nil { // the message alone tells of the failure: it names no digest
		fmt.Fprintln(os.Stderr, "the result can't be written to the volume:", err)
		digest, size = "", 0
		if result.Error == nil {
			result.Outcome, result.Outputs, result.Metrics = "Failed", nil, nil
			result.Error = &Failure{Class: "Infra", Type: "ResultError", Message: "the result can't be written: " + err.Error()}
		}
	}
	relative, _ := filepath.Rel(a.workspace, path)
	message := Message{
		Version: resultVersion, Job: result.Job, Attempt: result.Attempt, PodUID: result.PodUID,
		Contract: result.Contract, Path: relative, SHA256: digest, Bytes: size, Outcome: result.Outcome,
		StartedAt: result.StartedAt, FinishedAt: result.FinishedAt, Message: result.Message,
		CacheKey: result.CacheKey, Content: result.Content, Externals: len(result.Externals), Error: result.Error, Metrics: result.Metrics, Outputs: map[string]string{},
	}
	for name, output := range result.Outputs {
		message.Outputs[name] = output.Path
	}
	text, err := a.pack(message)
	if err != nil {
		fmt.Fprintln(os.Stderr, "there is no termination message:", err) // the operator asks for the result on the volume
	} else if err := os.WriteFile(terminationPath(), []byte(text), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "the termination message can't be written:", err)
	}
	if result.Error != nil {
		return exitCodes[result.Error.Class]
	}
	return 0
}

// pack makes the message's text. When it is too long the figures go that the operator can do without; they stand in
// result.json too.
func (a *Attempt) pack(message Message) (string, error) {
	for {
		body, err := json.Marshal(message)
		if err != nil {
			return "", err
		}
		var packed bytes.Buffer
		writer := zlib.NewWriter(&packed)
		writer.Write(body)
		writer.Close()
		text := messagePrefix + base64.StdEncoding.EncodeToString(packed.Bytes())
		if len(text) <= messageBytes {
			return text, nil
		}
		if message.Truncated {
			return "", fmt.Errorf("it has %d bytes, %d are allowed", len(text), messageBytes)
		}
		needed := map[string]float64{}
		for name, figure := range message.Metrics {
			if slices.Contains(a.contract.Needs, name) {
				needed[name] = figure
			}
		}
		message.Metrics, message.Truncated = needed, true
	}
}

// writeAtomic writes a file so that it is whole, or not there at all, whenever the machine stops.
func writeAtomic(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // after the rename there is nothing of that name
	file.Chmod(0o664)
	_, err = io.Copy(file, bytes.NewReader(content))
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes names in a folder durable; some network file systems can't, and say so.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	folder.Sync()
	return nil
}

func asInfra(err error) error {
	if err == nil {
		return nil
	}
	return &Failure{Class: "Infra", Type: "WorkspaceError", Message: "the workspace can't be written: " + err.Error()}
}

func terminationPath() string {
	return environment("SANDBOX_TERMINATION_MESSAGE", "/dev/termination-log")
}

func environment(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func short(uid string) string { return uid[:min(8, len(uid))] }

func stamp(moment time.Time) string { return moment.UTC().Format("2006-01-02T15:04:05.000Z") }
