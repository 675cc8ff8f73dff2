// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand"
	"strings"
	"testing"
)

func unpacked(t *testing.T, text string) (message Message) {
	t.Helper()
	packed, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, messagePrefix))
	if err != nil {
		t.Fatal(err)
	}
	reader, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(reader).Decode(&message); err != nil {
		t.Fatal(err)
	}
	return message
}

func TestFiguresThatNobodyNeedsGoWhenTheMessageIsTooLong(t *testing.T) {
	figures := map[string]float64{"dedup.rows_out": 4}
	for n := range 500 {
		figures[fmt.Sprintf("dedup.%d", n)] = rand.Float64()
	}
	attempt := &Attempt{contract: &Contract{Needs: []string{"dedup.rows_out"}}}
	text, err := attempt.pack(Message{Job: "anonymous/1/execution/0", Metrics: figures})
	if err != nil || len(text) > messageBytes {
		t.Fatal(len(text), err)
	}
	if got := unpacked(t, text); !got.Truncated || len(got.Metrics) != 1 || got.Metrics["dedup.rows_out"] != 4 {
		t.Errorf("got %+v", got)
	}
}

func TestAMessageThatFitsIsWhole(t *testing.T) {
	text, err := (&Attempt{contract: &Contract{}}).pack(Message{Metrics: map[string]float64{"a": 1, "b": 2}})
	if got := unpacked(t, text); err != nil || got.Truncated || len(got.Metrics) != 2 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAMessageThatCanNotFitIsNoMessage(t *testing.T) {
	long := make([]byte, 2*messageBytes)
	rand.New(rand.NewSource(1)).Read(long)
	text, err := (&Attempt{contract: &Contract{}}).pack(Message{Message: base64.StdEncoding.EncodeToString(long)})
	if err == nil {
		t.Errorf("got %d bytes", len(text))
	}
}
