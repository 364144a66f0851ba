# make install-service     install moodsort below PREFIX, with its units, user, folders and settings
# make uninstall-service   remove all of that but the settings, the data and the user
#
# Both may be repeated. With DESTDIR, as to make a package, nothing but files below it is touched.

PREFIX ?= /opt/moodsort
DESTDIR ?=
EXTRAS ?= metrics

HOME_OF_SERVICE := $(DESTDIR)$(PREFIX)
SHARED := $(HOME_OF_SERVICE)/share/moodsort
SETTINGS := $(DESTDIR)/etc/moodsort/moodsort.toml
UNITS := $(DESTDIR)/usr/local/lib/systemd/system
SYSUSERS := $(DESTDIR)/usr/local/lib/sysusers.d/moodsort.conf
TMPFILES := $(DESTDIR)/usr/local/lib/tmpfiles.d/moodsort.conf

.PHONY: install-service uninstall-service service-program service-files

install-service: service-program service-files
ifeq ($(DESTDIR),)
	systemd-sysusers $(SYSUSERS)
	systemd-tmpfiles --create $(TMPFILES)
	systemctl daemon-reload
endif
	@echo 'Start it now and at each boot with: systemctl enable --now moodsort'

service-program:
	@test ! -e $(HOME_OF_SERVICE) || test -e $(HOME_OF_SERVICE)/pyvenv.cfg || \
		{ echo '$(HOME_OF_SERVICE) holds something else; name another folder: make PREFIX=...'; exit 1; }
	@$(SUITABLE)
	$(PYTHON) -m venv $(HOME_OF_SERVICE)
	@# What an earlier build left must not come along.
	rm -rf build
	$(HOME_OF_SERVICE)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt '.[$(EXTRAS)]'
	rm -rf build
	@# Scripts name their interpreter: below DESTDIR it will not be there.
	$(if $(DESTDIR),grep -lsI '^#!$(HOME_OF_SERVICE)/' $(HOME_OF_SERVICE)/bin/* | \
		xargs -r sed -i '1s|^#!$(HOME_OF_SERVICE)/|#!$(PREFIX)/|')

service-files:
	install -d $(UNITS)
	for unit in moodsort.service moodsort@.service; do \
		sed 's|/opt/moodsort|$(PREFIX)|g' systemd/$$unit > $(UNITS)/$$unit && chmod 644 $(UNITS)/$$unit || exit 1; \
	done
	install -D -m 644 systemd/moodsort.sysusers $(SYSUSERS)
	install -D -m 644 systemd/moodsort.tmpfiles $(TMPFILES)
	install -d $(SHARED)/drop-ins $(SHARED)/monitoring
	install -m 644 README.md CHANGELOG.md LICENSE systemd/moodsort.toml $(SHARED)
	install -m 644 systemd/drop-ins/*.conf $(SHARED)/drop-ins
	install -m 644 docs/monitoring/* $(SHARED)/monitoring
	@# Settings that are there are the operator's.
	test -e $(SETTINGS) || { install -d -m 750 $(dir $(SETTINGS)) && \
		sed 's|"moodsort-data/|"/var/lib/moodsort/|' systemd/moodsort.toml > $(SETTINGS) && chmod 640 $(SETTINGS); }

uninstall-service:
ifeq ($(DESTDIR),)
	-systemctl disable --now moodsort.service
	-systemctl stop 'moodsort@*.service'
endif
	rm -f $(UNITS)/moodsort.service $(UNITS)/moodsort@.service $(SYSUSERS) $(TMPFILES)
	test ! -e $(HOME_OF_SERVICE)/pyvenv.cfg || rm -rf $(HOME_OF_SERVICE)
ifeq ($(DESTDIR),)
	systemctl daemon-reload
endif
	@echo 'Left as they are: /etc/moodsort, /var/lib/moodsort and the user moodsort.'
