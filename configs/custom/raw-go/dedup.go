// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Settings are this hook's extraConfigs. Their form was checked by the SandboxHook's schema, but for what inputs bring.
type Settings struct {
	DatasetPath string `json:"dataset_path"`
	TextKey     string `json:"text_key"`
	IgnoreCase  bool   `json:"ignore_case"`
	IgnoreSpace bool   `json:"ignore_space"`
}

// dedup keeps the first row of each text, in one pass: 16 bytes of digest and the line's number in memory for each.
func dedup(ctx context.Context, a *Attempt, given map[string]any) (*Done, error) {
	var settings Settings
	encoded, err := json.Marshal(given)
	if err == nil {
		err = json.Unmarshal(encoded, &settings)
	}
	if err != nil {
		return nil, configError("extraConfigs: %v", err)
	}
	path, err := a.resolve("extraConfigs.dataset_path", settings.DatasetPath)
	if err != nil {
		return nil, err
	}
	rows, whole, err := open(path)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	kept, err := create(filepath.Join(a.out(), "dataset.jsonl"))
	if err != nil {
		return nil, asInfra(err)
	}
	defer kept.file.Close()
	removed, err := create(filepath.Join(a.out(), "removed.jsonl"))
	if err != nil {
		return nil, asInfra(err)
	}
	defer removed.file.Close()

	first := map[[16]byte]int64{}
	lines := bufio.NewReaderSize(rows, 1<<20)
	for number := int64(1); ; number++ {
		line, ending := lines.ReadBytes('\n')
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			key, err := settings.key(line)
			if err != nil {
				return nil, fmt.Errorf("%s, line %d: %w", filepath.Base(path), number, err)
			}
			if same, seen := first[key]; seen {
				removed.row(fmt.Appendf(nil, `{"line": %d, "same_as": %d}`, number, same))
			} else {
				first[key] = number
				kept.row(line)
			}
		}
		if ending == io.EOF {
			break
		}
		if ending != nil {
			return nil, fmt.Errorf("%s, line %d: %w", filepath.Base(path), number, ending)
		}
	}
	if err := a.unchanged(path, settings.DatasetPath, whole); err != nil {
		return nil, err
	}
	for _, file := range []*rowFile{kept, removed} {
		if err := file.close(); err != nil {
			return nil, asInfra(err)
		}
	}
	all := kept.rows + removed.rows
	return &Done{
		Outputs: []Output{
			a.made("dataset.jsonl", kept.hash.Sum(nil), kept.bytes, kept.rows),
			a.made("removed.jsonl", removed.hash.Sum(nil), removed.bytes, removed.rows),
		},
		Metrics: map[string]float64{
			"rows_in": float64(all), "rows_out": float64(kept.rows), "removed": float64(removed.rows),
		},
		Message: fmt.Sprintf("%d of %d rows are copies of an earlier one", removed.rows, all),
	}, nil
}

// key is what makes two rows the same: the digest of their text.
func (s Settings) key(line []byte) (key [16]byte, err error) {
	row := map[string]json.RawMessage{}
	if err := json.Unmarshal(line, &row); err != nil {
		return key, fmt.Errorf("is not a JSON object: %w", err)
	}
	var text *string
	if err := json.Unmarshal(row[s.TextKey], &text); err != nil || text == nil {
		return key, fmt.Errorf("has no text under %q", s.TextKey)
	}
	if s.IgnoreCase {
		*text = strings.ToLower(*text)
	}
	if s.IgnoreSpace {
		*text = strings.Join(strings.Fields(*text), " ")
	}
	sum := sha256.Sum256([]byte(*text))
	return [16]byte(sum[:16]), nil
}

// unchanged compares what was read with what the producer's result says, or notes it where no job made the file.
func (a *Attempt) unchanged(path, named string, whole *counted) error {
	sum := hex.EncodeToString(whole.hash.Sum(nil))
	for _, input := range a.inputs {
		if input.path != named {
			continue
		}
		if whole.bytes != input.bytes || (input.digest != "" && sum != input.digest) {
			message := fmt.Sprintf("the output %q of job %s: %s was changed after the job wrote it; the job must run again",
				input.ref.Output, input.ref.Job, path)
			return &Failure{Class: "Input", Type: "InputError", Message: message, Job: input.ref.Job}
		}
		return nil
	}
	a.externals[named] = sum
	return nil
}

// counted digests and counts what is read through it.
type counted struct {
	io.Reader
	hash  hash.Hash
	bytes int64
}

func (c *counted) Read(buffer []byte) (int, error) {
	n, err := c.Reader.Read(buffer)
	c.hash.Write(buffer[:n])
	c.bytes += int64(n)
	return n, err
}

// open gives the lines of a file, unpacked when it is gzip, and the digest of the file itself once all is read.
func open(path string) (io.ReadCloser, *counted, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	whole := &counted{Reader: file, hash: sha256.New()}
	if !strings.HasSuffix(path, ".gz") {
		return struct {
			io.Reader
			io.Closer
		}{whole, file}, whole, nil
	}
	unpacked, err := gzip.NewReader(whole)
	if err != nil {
		file.Close()
		return nil, nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return struct {
		io.Reader
		io.Closer
	}{unpacked, file}, whole, nil
}

// rowFile is an artifact in the making.
type rowFile struct {
	file   *os.File
	buffer *bufio.Writer
	hash   hash.Hash
	bytes  int64
	rows   int64
}

func create(path string) (*rowFile, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	made := &rowFile{file: file, hash: sha256.New()}
	made.buffer = bufio.NewWriterSize(io.MultiWriter(file, made.hash), 1<<20)
	return made, nil
}

func (f *rowFile) row(line []byte) {
	f.buffer.Write(line) // bufio keeps the first error for Flush
	f.buffer.WriteByte('\n')
	f.bytes += int64(len(line)) + 1
	f.rows++
}

func (f *rowFile) close() error {
	if err := f.buffer.Flush(); err != nil {
		return err
	}
	return f.file.Sync()
}
