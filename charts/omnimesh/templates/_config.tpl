{{- define "omnimesh.config" -}}
data_dir = "/var/lib/omnimesh"

[edge]
listen = "0.0.0.0:8443"

[edge.tls]
cert = "/etc/omnimesh/tls/tls.crt"
key = "/etc/omnimesh/tls/tls.key"
{{- with .Values.config }}

{{ . | trim }}
{{- end }}
{{- end }}
