package session

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func TestPeek(t *testing.T) {
	c := limited(t, 0)
	_, data := kindFiles(t)
	for name, kind := range map[string]string{"completion": "completion", "choice": "choice", "messages": "completion"} {
		var r peekResult
		c.get("data.peek", params{"path": data[name]["path"], "rows": 2}, &r)
		if r.Kind != kind || r.Total != 40 || len(r.Rows) != 2 || len(r.Rows[0]) != len(r.Columns) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	path := filepath.Join(t.TempDir(), "d.csv")
	write(t, path, "text,label\n"+strings.Repeat("ä", 400)+",x\n")
	var r peekResult
	c.get("data.peek", params{"path": path}, &r)
	if want := strings.Repeat("ä", 250) + "…"; r.Kind != "labels" || r.Rows[0][0] != want {
		t.Errorf("%+v", r)
	}
	if _, e := c.call("data.peek", params{"path": path, "rows": 101}); e == nil || e.Code != "invalid_params" {
		t.Errorf("%v", e)
	}
	write(t, path, "text,label\na\n")
	if _, e := c.call("data.peek", params{"path": path}); e == nil || e.Code != "data" || !strings.Contains(e.Message, "line 2") {
		t.Errorf("%v", e)
	}
	var list []taskInfo
	c.get("data.tasks", params{}, &list)
	if len(list) != 20 || fmt.Sprint(list[0]) != "{sst2 labels accuracy GLUE: sentence, label (0, 1)}" {
		t.Errorf("%d: %v", len(list), list[0])
	}
}
