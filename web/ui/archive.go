package ui

import (
	"archive/zip"
	"bytes"
	"fmt"
	"time"
)

// File is one file of an archive.
type File struct {
	Name string
	Data []byte
}

// Zip packs files into a .zip, as they are: weights hardly compress, and compressing half a megabyte of them kept the main thread for 60 ms.
// Times are fixed, so equal content gives equal bytes.
func Zip(files []File) ([]byte, error) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		out, err := w.CreateHeader(&zip.FileHeader{Name: f.Name, Method: zip.Store, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)})
		if err == nil {
			_, err = out.Write(f.Data)
		}
		if err != nil {
			return nil, fmt.Errorf("packing %s: %w", f.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("closing the archive: %w", err)
	}
	return b.Bytes(), nil
}
