// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const contractVersion = 1

// Contract is what this program needs of the job contract; it ignores what it does not know.
type Contract struct {
	Version    int
	Task       string
	Experiment struct{ Name, UID string }
	Job        struct{ ID, MetaName string }
	Attempt    int
	CacheKey   string
	Configs    struct {
		Extra any
		Local map[string]any
	}
	Inputs            map[string]json.RawMessage // an InputRef, or a list of them that a forEach gathered
	Outputs           []string
	Needs             []string // figures that the operator itself must know
	ActiveSecondsLeft *int

	digest string // its identity, as the operator computed it: the result repeats it
}

// InputRef says where a setting gets its value: an output or a metric of another job's committed result.
type InputRef struct {
	Job, Output, ResultPath, SHA256 string
	Element                         *int
}

// Input is the value that an InputRef stands for.
type Input struct {
	ref    InputRef
	path   string // of a file, absolute; else empty
	value  any
	digest string
	bytes  int64
}

// Failure is how a job fails: its class decides what the operator does next.
type Failure struct {
	Class   string `json:"class"`
	Type    string `json:"type"`
	Message string `json:"message"`
	Job     string `json:"job,omitempty"` // class Input: whose result is missing or was changed
}

func (f *Failure) Error() string { return f.Message }

func configError(format string, words ...any) error {
	return &Failure{Class: "Config", Type: "ConfigError", Message: fmt.Sprintf(format, words...)}
}

// readContract reads base64(gzip(JSON)) from the environment, or from the file that it names when it is long.
func readContract() (*Contract, error) {
	text := os.Getenv("SANDBOX_CONTRACT")
	if name := os.Getenv("SANDBOX_CONTRACT_FILE"); name != "" {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("SANDBOX_CONTRACT_FILE: %w", err)
		}
		text = string(content)
	}
	packed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, fmt.Errorf("there is no job contract: %w", err)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("there is no job contract: %w", err)
	}
	body, err := io.ReadAll(unpacked)
	if err != nil {
		return nil, fmt.Errorf("there is no job contract: %w", err)
	}
	contract := &Contract{}
	if err := json.Unmarshal(body, contract); err != nil {
		return nil, fmt.Errorf("there is no job contract: %w", err)
	}
	if contract.Version > contractVersion {
		return nil, fmt.Errorf("the contract has version %d, this program reads %d", contract.Version, contractVersion)
	}
	if contract.Task != "" && contract.Task != "run" {
		return nil, fmt.Errorf("the task is %q; this program only runs", contract.Task)
	}
	if contract.digest = os.Getenv("SANDBOX_CONTRACT_DIGEST"); contract.digest == "" {
		return nil, errors.New("SANDBOX_CONTRACT_DIGEST is not set: the result could not say what it answers")
	}
	return contract, nil
}

// settings are extraConfigs with the hook's defaults in (the operator merged them), then `local`, then the inputs.
func (a *Attempt) settings() (map[string]any, error) {
	settings, _ := a.contract.Configs.Extra.(map[string]any)
	if settings == nil {
		settings = map[string]any{}
	}
	for target, value := range a.contract.Configs.Local {
		if err := assign(settings, target, value); err != nil {
			return nil, err
		}
	}
	for target, raw := range a.contract.Inputs {
		var ref InputRef
		if err := json.Unmarshal(raw, &ref); err != nil {
			return nil, configError("input[%q]: this program takes one result, not a list of them", target)
		}
		input, err := a.input(ref)
		if err != nil {
			return nil, err
		}
		a.inputs[target] = input
		value := input.value
		if input.path != "" {
			value = input.path
		}
		if err := assign(settings, target, value); err != nil {
			return nil, err
		}
	}
	return settings, nil
}

// assign sets `extraConfigs.<key>`; this program's settings have one level.
func assign(settings map[string]any, target string, value any) error {
	key, found := strings.CutPrefix(target, "extraConfigs.")
	if !found || key == "" || strings.Contains(key, ".") {
		return configError("%s: this program has settings of one level in extraConfigs, and nothing else", target)
	}
	settings[key] = value
	return nil
}

// input finds what a reference stands for: never by a name on the volume, always by the committed result's path and digest.
func (a *Attempt) input(ref InputRef) (Input, error) {
	lost := func(format string, words ...any) error {
		said := fmt.Sprintf(format, words...)
		message := fmt.Sprintf("the output %q of job %s: %s; the job must run again", ref.Output, ref.Job, said)
		return &Failure{Class: "Input", Type: "InputError", Message: message, Job: ref.Job}
	}
	content, err := os.ReadFile(filepath.Join(a.workspace, ref.ResultPath))
	if err != nil {
		return Input{}, lost("its result can't be read: %v", err)
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != ref.SHA256 {
		return Input{}, lost("its result %s is not the one that was committed", ref.ResultPath)
	}
	var result struct {
		MetaName string
		Outputs  map[string]struct {
			Kind, Path, SHA256 string
			Bytes              int64
			Value              json.RawMessage
		}
		Metrics map[string]float64
	}
	if err := json.Unmarshal(content, &result); err != nil {
		return Input{}, lost("%s is not a result", ref.ResultPath)
	}
	output, found := result.Outputs[ref.Output]
	switch {
	case found && output.Kind == "path":
		path := filepath.Join(a.workspace, output.Path)
		if _, err := os.Stat(path); err != nil {
			return Input{}, lost("%s is missing from the workspace", output.Path)
		}
		return Input{ref: ref, path: path, digest: output.SHA256, bytes: output.Bytes}, nil
	case found:
		sum := sha256.Sum256(output.Value)
		input := Input{ref: ref, digest: hex.EncodeToString(sum[:])}
		return input, json.Unmarshal(output.Value, &input.value)
	}
	for _, name := range []string{ref.Output, result.MetaName + "." + ref.Output} {
		if figure, found := result.Metrics[name]; found {
			sum := sha256.Sum256([]byte(strconv.FormatFloat(figure, 'g', -1, 64)))
			return Input{ref: ref, value: figure, digest: hex.EncodeToString(sum[:])}, nil
		}
	}
	return Input{}, lost("it returned neither an output nor a figure of that name")
}

// resolve makes a path of the settings absolute, and holds it inside the workspace and the inputs.
func (a *Attempt) resolve(field, path string) (string, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(a.experiment, path)
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", configError("%s: there is no file %s", field, path)
	} else if err != nil {
		return "", configError("%s: %v", field, err)
	}
	for _, root := range []string{a.workspace, a.inputsFolder} {
		if root, err := filepath.EvalSymlinks(root); err == nil && strings.HasPrefix(real, root+"/") {
			return real, nil
		}
	}
	return "", configError("%s: the path %q leads out of the workspace", field, path)
}
